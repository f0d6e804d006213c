"""What alerts say to people and programs: pure."""

import hashlib
import html
import math
from email.message import EmailMessage

import msgspec

from moodwire.records import Alert, Course, Evidence

MOST_IN_FULL = 5  # alerts of one mail with their stories; the rest in the table only
DIGEST_STORIES = 3  # of each alert in a mail of several
MOST_NAMED = 4  # in a subject
VERSION = 1
_SPARKS = "▁▂▃▄▅▆▇█"
_CHANGE = {"fires": "", "worsens": "worse: ", "acknowledged": "acknowledged: ", "over": "over: "}
_INK, _FAINT, _LINE = "#1c1c1e", "#6b6b70", "#dcdce0"
_TONE = {"fires": "#b3261e", "worsens": "#b3261e", "acknowledged": "#8a5a00", "over": "#2e6b34"}


class Mention(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm that nothing is sent of, because one in the message explains it."""

    incident_id: str
    series: str
    reason: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts for one channel; `key` is the same however often it is sent."""

    key: str
    alerts: tuple[Alert, ...]
    mentions: tuple[Mention, ...] = ()
    repeat: bool = False  # of what was told before
    test: bool = False


def new_key(channel: str, alerts: tuple[Alert, ...], at_s: int) -> str:
    """at_s: when it was decided; a repeat is another message."""
    told = "\n".join([channel, str(at_s), *(f"{alert.incident_id} {alert.number}" for alert in alerts)])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def subject(message: Message) -> str:
    marks = ("test: " if message.test else "") + ("still: " if message.repeat else "")
    if len(message.alerts) == 1:
        return f"[moodwire] {marks}{headline(message.alerts[0])}"
    changes = {alert.change for alert in message.alerts}
    what = "over" if changes == {"over"} else "alarms"
    names = [_name(alert) for alert in message.alerts]
    named = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    return f"[moodwire] {marks}{len(names)} {what}: {named}"


def headline(alert: Alert) -> str:
    """What happened, in a line."""
    mark, name = _CHANGE[alert.change], _name(alert)
    if alert.kind == "surge":
        counts = (
            "" if alert.change in {"over", "acknowledged"} else f": {_stories(alert)}, {alert.expected:.2g} expected"
        )
        return f"{mark}negative news about {name}{counts}"
    if alert.kind == "silence":
        return f"{mark}nothing comes from {name}" + ("" if mark else f": {alert.reason}")
    what = {"score": "mood", "share": "negative share", "article": "news", "pickup": "a story"}[alert.kind]
    return f"{mark}{what} about {name}" + ("" if mark else f": {alert.reason}")


def plain(message: Message) -> str:
    many = len(message.alerts) > 1
    parts = []
    if message.test:
        parts.append("This is a test of the channel; nothing happened.\n")
    for alert in message.alerts[:MOST_IN_FULL]:
        parts.append(_plain(alert, DIGEST_STORIES if many else len(alert.evidence)))
    if rest := message.alerts[MOST_IN_FULL:]:
        parts.append("\n".join(["And also:", *(f"  {headline(alert)}" for alert in rest)]) + "\n")
    if message.mentions:
        lines = [f"  {mention.series}: {mention.reason}" for mention in message.mentions]
        parts.append("\n".join(["Explained by the above, and not told apart:", *lines]) + "\n")
    return "\n".join(parts)


def as_html(message: Message) -> str:
    """Tables and inline styles only: that is what mail programs show alike."""
    many = len(message.alerts) > 1
    parts = []
    if message.test:
        parts.append("<p>This is a test of the channel; nothing happened.</p>")
    if many:
        parts.append(f"<h2 style='font-size:20px;margin:0 0 8px'>{_escape(subject(message)[11:])}</h2>")
        parts.append(_table(message.alerts))
    for alert in message.alerts[:MOST_IN_FULL]:
        parts.append(_section(alert, DIGEST_STORIES if many else len(alert.evidence)))
    if message.mentions:
        lines = "".join(f"<li>{_escape(m.series)}: {_escape(m.reason)}</li>" for m in message.mentions)
        parts.append(f"<p style='margin:16px 0 4px'>Explained by the above, and not told apart:</p><ul>{lines}</ul>")
    style = f"font:15px/1.45 Helvetica,Arial,sans-serif;color:{_INK};max-width:640px"
    return f'<!doctype html><html lang="en"><body><div style="{style}">{"".join(parts)}</div></body></html>'


def email(message: Message, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """Plain text with an HTML alternative; its Message-ID comes from the message's key, its thread from incidents."""
    mail = EmailMessage()
    mail["Subject"] = " ".join(subject(message).split())
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = max(alert.at for alert in message.alerts)
    mail["Message-ID"] = f"<{message.key}@moodwire>"
    # The thread's root is never sent: mail programs put together what refers to the same one.
    threads = [f"<{_digest(alert.incident_id)}@moodwire>" for alert in message.alerts]
    mail["In-Reply-To"] = threads[0]
    mail["References"] = " ".join(threads)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(plain(message))
    mail.add_alternative(as_html(message), subtype="html")
    return mail


def webhook(message: Message) -> bytes:
    """The JSON body; docs/webhook.schema.json is its schema."""
    body = {
        "version": VERSION,
        "event": "test" if message.test else "repeat" if message.repeat else "alert",
        "key": message.key,
        "alerts": [{**msgspec.to_builtins(alert), "expected": alert.expected} for alert in message.alerts],
        "mentions": message.mentions,
    }
    return msgspec.json.encode(body)


def spark(course: Course) -> str:
    """The course in characters."""
    most = max(*course.negative, 1)
    return "".join(_SPARKS[math.ceil(count / most * (len(_SPARKS) - 1))] for count in course.negative)


def _plain(alert: Alert, stories: int) -> str:
    lines = [headline(alert), alert.reason, ""]
    lines += [f"{name:<9}{value}" for name, value in _facts(alert)]
    if alert.course:
        lines += ["", f"{spark(alert.course)}  negative stories, {_span(alert.course)}"]
    if alert.evidence:
        lines += ["", "The stories:"]
        for story in alert.evidence[:stories]:
            lines += [f"  {_line(story)}", *([f"    {story.url}"] if _is_web(story.url) else [])]
    return "\n".join(lines) + "\n"


def _section(alert: Alert, stories: int) -> str:
    rows = "".join(
        f"<tr><td style='padding:1px 14px 1px 0;color:{_FAINT};vertical-align:top'>{name}</td>"
        f"<td style='padding:1px 0'>{_escape(value)}</td></tr>"
        for name, value in _facts(alert)
    )
    items = "".join(_item(story) for story in alert.evidence[:stories])
    title = _escape(headline(alert))
    return (
        f"<div style='border-left:4px solid {_TONE[alert.change]};padding:0 0 0 12px;margin:0 0 20px'>"
        f"<h3 style='font-size:18px;line-height:1.3;margin:0 0 4px'>{title[:1].upper()}{title[1:]}</h3>"
        f"<p style='margin:0 0 10px'>{_escape(alert.reason)}.</p>"
        f"{_chart(alert.course, _TONE[alert.change]) if alert.course else ''}"
        "<table role='presentation' cellspacing='0' cellpadding='0' style='font-size:14px;margin:0 0 10px'>"
        f"{rows}</table><ol style='padding-left:20px;margin:0'>{items}</ol></div>"
    )


def _chart(course: Course, tone: str) -> str:
    """Bars as table cells: shown by mail programs that show no images."""
    height, most = 48, max(*course.negative, 1)
    bars = "".join(
        f"<td width='14' valign='bottom' style='padding:0 1px;height:{height}px'>"
        f"<div style='width:12px;height:{max(round(count / most * height), 1)}px;"
        f"background:{tone if count else _LINE};font-size:1px;line-height:1px'>&nbsp;</div></td>"
        for count in course.negative
    )
    told = f"negative stories, {_span(course)}; the highest bar is {most}"
    return (
        f"<table role='img' aria-label='{told}' cellspacing='0' cellpadding='0' "
        f"style='border-bottom:1px solid {_FAINT}'><tr>{bars}</tr></table>"
        f"<p style='font-size:12px;color:{_FAINT};margin:2px 0 10px'>{told}</p>"
    )


def _table(alerts: tuple[Alert, ...]) -> str:
    cell = "padding:3px 14px 3px 0;border-bottom:1px solid " + _LINE
    rows = "".join(
        f"<tr><td style='{cell}'><b>{_escape(_name(alert))}</b></td>"
        f"<td style='{cell};color:{_TONE[alert.change]}'>{alert.change}</td>"
        f"<td style='{cell}'>{_escape(alert.reason)}</td></tr>"
        for alert in alerts
    )
    return f"<table cellspacing='0' cellpadding='0' style='font-size:14px;margin:0 0 20px'>{rows}</table>"


def _item(story: Evidence) -> str:
    title = _escape(story.title)
    if _is_web(story.url):
        title = f'<a href="{_escape(story.url)}" style="color:#0b57d0">{title}</a>'
    about = f"{story.source}, {story.published_at:%H:%M} UTC, score {story.score:+.2f}{_copies(story)}"
    return f'<li style="margin:0 0 8px">{title}<br><small style="color:{_FAINT}">{_escape(about)}</small></li>'


def _facts(alert: Alert) -> list[tuple[str, str]]:
    """What is known of an alert: name and value."""
    facts = [("Decided", f"{alert.at:%Y-%m-%d %H:%M:%S} UTC; firing since {alert.since:%Y-%m-%d %H:%M:%S} UTC")]
    if alert.kind == "surge" and alert.change != "acknowledged":
        facts.append(("Counted", f"{_stories(alert)} in {alert.window_s / 60:g} min; {alert.expected:.2g} expected"))
    if alert.share is not None:
        facts.append(("Negative", f"{alert.share:.0%} of the window's stories"))
    if alert.words:
        facts.append(("Words", ", ".join(alert.words)))
    if alert.sources:
        facts.append(("Sources", ", ".join(alert.sources)))
    if alert.by:
        facts.append(("By", alert.by + (f": {alert.comment}" if alert.comment else "")))
    if alert.ends_when and alert.state != "resolved":
        facts.append(("Ends", f"when {alert.ends_when}"))
    return [*facts, ("Rule", f"{alert.rule} ({alert.severity})"), ("Incident", alert.incident_id)]


def _span(course: Course) -> str:
    return f"{course.step_s * len(course.negative) / 3600:.3g} h in steps of {course.step_s / 60:g} min"


def _stories(alert: Alert) -> str:
    return f"{alert.observed} {'story' if alert.observed == 1 else 'stories'}"


def _name(alert: Alert) -> str:
    return alert.series.partition(":")[2] or alert.series


def _line(story: Evidence) -> str:
    return f"{story.published_at:%H:%M} {story.score:+.2f} {story.title} ({story.source}{_copies(story)})"


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _copies(story: Evidence) -> str:
    return f", {story.copies} copies" if story.copies > 1 else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _escape(text: str) -> str:
    return html.escape(text)
