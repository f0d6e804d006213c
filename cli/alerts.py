"""`moodwire alerts list | show | ack | silence | test`: what fires, and what people do about it."""

import getpass
import re
import time
from datetime import datetime, timedelta

from rich.console import Console

from alerts.channels import open_channel
from alerts.messages import Message, new_key, plain
from cli.stages import now, open_store
from cli.times import given_time
from moodwire.errors import BadInput
from moodwire.records import Alert, Course, Evidence
from moodwire.settings import Place, Settings
from moodwire.store import commands, queries, watching
from moodwire.store.commands import Acknowledge, Command, EndSilence, Silence
from moodwire.store.db import Store
from moodwire.store.incidents import silences

WAIT_S = 5.0  # for the alerts stage to carry a command out
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def listed(place: Place, settings: Settings, limit: int) -> int:
    """Incidents, the open ones first, then silences and what could not be delivered."""
    store = open_store(place, settings)
    console = Console()
    found = queries.incidents(store, limit)
    for state, alert in found:
        _say(console, f"{state:<13}{alert.severity:<10}{alert.incident_id}\n    {alert.reason}")
    if not found:
        _say(console, "no incident so far; rules stand in moodwire.toml under [[rules]]")
    for row in queries.pending_incidents(store):
        _say(console, f"pending since {row.since:%Y-%m-%d %H:%M:%S} UTC: {row.rule}, {row.series}")
    with store.read() as connection:
        held = silences(connection, now())
    for each in held:
        begins = f" from {each.starts_at:%Y-%m-%d %H:%M}" if each.starts_at > now() else ""
        span = f"{begins} until {each.ends_at:%Y-%m-%d %H:%M} UTC"
        _say(console, f"silence {each.id}: {', '.join(each.matchers)}{span}, by {each.by}: {each.reason}")
    for delivery in queries.failed_deliveries(store, limit):
        at = f"{delivery.created_at:%Y-%m-%d %H:%M} UTC"
        _say(console, f"not delivered to {delivery.channel}: {delivery.last_error} ({at})")
    return 0


def show(place: Place, settings: Settings, part: str) -> int:
    """One incident: its latest alert, its course, comments, and who was told."""
    store = open_store(place, settings)
    file = watching.incident(store, _named(store, part), now())
    assert file is not None, "_named found it"
    console = Console()
    _say(console, plain(Message(key="", alerts=(file.alerts[-1],))))
    for alert in file.alerts:
        _say(console, f"{alert.at:%Y-%m-%d %H:%M:%S}  {alert.change}: {alert.reason}")
    for comment in file.comments:
        _say(console, f"{comment.at:%Y-%m-%d %H:%M:%S}  {comment.by}: {comment.text}")
    for delivery in file.deliveries:
        error = f" ({delivery.last_error})" if delivery.last_error else ""
        _say(
            console, f"{delivery.created_at:%Y-%m-%d %H:%M:%S}  message to {delivery.channel}: {delivery.status}{error}"
        )
    return 0


def ack(place: Place, settings: Settings, part: str, comment: str) -> int:
    store = open_store(place, settings)
    return _give(store, Acknowledge(incident_id=_named(store, part), comment=comment))


def silence(
    place: Place, settings: Settings, matchers: list[str], span: str, start: str | None, reason: str, end: int | None
) -> int:
    """Begin a silence, or end one. Raises BadInput."""
    store = open_store(place, settings)
    if end is not None:
        return _give(store, EndSilence(id=end))
    begins = given_time(start) or now()
    return _give(
        store,
        Silence(matchers=tuple(matchers), starts_at=begins, ends_at=begins + duration(span), reason=reason),
    )


def test(settings: Settings, name: str) -> int:
    """Send a made-up alert to a channel and say what came of it; 0 if it was taken."""
    known = {channel.name: channel for channel in settings.channels}
    if name not in known:
        raise BadInput(f"there is no channel {name!r} in the configuration (there are: {', '.join(known) or 'none'})")
    alerts = (_sample(now().replace(microsecond=0)),)
    message = Message(key=new_key(name, alerts, int(now().timestamp())), alerts=alerts, test=True)
    began = time.monotonic()
    outcome = open_channel(known[name], now).send(message)
    told = "delivered" if outcome.delivered else "not delivered"
    why = f": {outcome.reason}" if outcome.reason else ""
    _say(Console(), f"{name}: {told} in {time.monotonic() - began:.1f} s{why}")
    return 0 if outcome.delivered else 1


def duration(text: str) -> timedelta:
    """`90s`, `30min`, `2h`, `1d`. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|d)", text)
    if found is None or float(found.group(1)) == 0:
        raise BadInput(f"{text!r} is no duration; give for example 30min, 2h or 1d")
    return timedelta(seconds=float(found.group(1)) * _UNITS[found.group(2)])


def _give(store: Store, command: Command) -> int:
    seq = commands.give(store, "alerts", command, getpass.getuser(), now())
    until = time.monotonic() + WAIT_S
    while (result := commands.result(store, seq)) is None and time.monotonic() < until:
        time.sleep(0.1)
    _say(Console(), result or "noted; it is carried out when the alerts stage runs (moodwire up)")
    return 0


def _named(store: Store, part: str) -> str:
    """The incident whose id has this part, an open one before others. Raises BadInput."""
    found = [(state, alert.incident_id) for state, alert in queries.incidents(store, None) if part in alert.incident_id]
    live = [(state, id_) for state, id_ in found if state != "resolved"]
    exact = [each for each in found if each[1] == part]
    best = exact or live or found
    if len(best) != 1:
        several = "\n".join(["several incidents have it in their name:", *(f"  {id_}" for _, id_ in best[:20])])
        raise BadInput(f"{part}: {several if best else 'no incident has it in its name'}; see `moodwire alerts list`")
    return best[0][1]


def _sample(at: datetime) -> Alert:
    return Alert(
        incident_id="test",
        rule="test",
        series="entity:TEST",
        state="firing",
        at=at,
        since=at,
        window_s=3600,
        observed=7,
        expected=0.6,
        log10_tail=-5.9,
        reason="a test of the channel",
        severity="info",
        course=Course(start=at - timedelta(hours=4), step_s=600, negative=(*([0] * 20), 1, 0, 2, 4)),
        evidence=(
            Evidence(
                story_id="test",
                article_id="test",
                title="An invented story",
                url="",
                source="moodwire",
                published_at=at,
                score=-0.8,
                copies=2,
            ),
        ),
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
