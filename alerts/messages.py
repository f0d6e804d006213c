"""What an alert says to people and programs: pure."""

import hashlib
import html
from email.message import EmailMessage
from typing import Any

import msgspec

from moodwire.records import Alert, Evidence


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One alert for one channel; `key` is the same however often it is sent."""

    key: str
    alert: Alert


def subject(alert: Alert) -> str:
    name = alert.series.partition(":")[2] or alert.series
    if alert.state == "resolved":
        return f"[moodwire] over: negative news about {name}"
    return f"[moodwire] negative news about {name}: {alert.observed} stories, {alert.expected:.2g} expected"


def plain(alert: Alert) -> str:
    lines = [
        f"{alert.series}: {alert.state}",
        alert.reason,
        "",
        f"Decided  {alert.at:%Y-%m-%d %H:%M:%S} UTC, firing since {alert.since:%Y-%m-%d %H:%M:%S} UTC",
        f"Rule     {alert.rule}, window of {alert.window_s / 60:g} min",
        f"Incident {alert.incident_id}",
    ]
    if alert.evidence:
        lines += ["", "The stories:"]
        for story in alert.evidence:
            lines += [f"  {_line(story)}", *([f"    {story.url}"] if story.url else [])]
    return "\n".join(lines) + "\n"


def as_html(alert: Alert) -> str:
    def cell(story: Evidence) -> str:
        title = html.escape(story.title)
        link = f'<a href="{html.escape(story.url)}">{title}</a>' if story.url.startswith("http") else title
        about = f"{story.source}, {story.published_at:%H:%M} UTC, score {story.score:+.2f}{_copies(story)}"
        return f'<li style="margin:0 0 8px">{link}<br><small style="color:#666">{html.escape(about)}</small></li>'

    stories = "".join(cell(story) for story in alert.evidence)
    return (
        '<div style="font:15px/1.45 Georgia,serif;max-width:640px">'
        f"<h2 style='font-size:19px;margin:0 0 6px'>{html.escape(subject(alert).removeprefix('[moodwire] '))}</h2>"
        f"<p>{html.escape(alert.reason)}.<br>Decided {alert.at:%Y-%m-%d %H:%M:%S} UTC by rule "
        f"{html.escape(alert.rule)}, firing since {alert.since:%Y-%m-%d %H:%M:%S} UTC.</p>"
        f"<ol style='padding-left:20px'>{stories}</ol>"
        f"<p><small style='color:#666'>{html.escape(alert.incident_id)}</small></p></div>"
    )


def email(message: Message, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """Plain text with an HTML alternative; its Message-ID comes from the message's key."""
    mail = EmailMessage()
    mail["Subject"] = " ".join(subject(message.alert).split())
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = message.alert.at
    # Hashed: a key may be longer than a header line, and hold what an identifier must not.
    mail["Message-ID"] = f"<{hashlib.sha256(message.key.encode()).hexdigest()}@moodwire>"
    mail.set_content(plain(message.alert))
    mail.add_alternative(as_html(message.alert), subtype="html")
    return mail


def webhook(message: Message) -> bytes:
    """The JSON body; its fields are described in docs/alerts.md."""
    body: dict[str, Any] = {"version": 1, "event": "alert", "key": message.key, "alert": message.alert}
    return msgspec.json.encode(body)


def _line(story: Evidence) -> str:
    return f"{story.published_at:%H:%M} {story.score:+.2f} {story.title} ({story.source}{_copies(story)})"


def _copies(story: Evidence) -> str:
    return f", {story.copies} copies" if story.copies > 1 else ""
