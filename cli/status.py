"""`moodwire status` and `moodwire dead-letters`."""

from rich.console import Console
from rich.table import Table

from cli.stages import now, open_log, open_store
from moodwire.errors import BadInput
from moodwire.records import DeadLetter, decode
from moodwire.settings import Place, Settings
from moodwire.stage import DEAD_LETTERS
from moodwire.store import queries
from moodwire.store.health import stage_health
from moodwire.store.sources import silent_sources
from moodwire.stream.log import Message

STALE_S = 15.0
TOPICS = ("articles", "scored", "windows")  # that stages read


def run(place: Place, settings: Settings) -> int:
    """0 when of each stage that ever ran an instance works, else 1."""
    store = open_store(place, settings)
    at = now()
    stages = stage_health(store)
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "instance", "state", "pid", "processed", "behind", "dead letters", "memory MB", "note"):
        table.add_column(name, justify="right" if name in {"pid", "processed", "behind", "memory MB"} else "left")
    working = set()
    for stage in stages:
        quiet_s = (at - stage.beat_at).total_seconds()
        running = quiet_s < STALE_S and stage.state != "stopped"
        if running and stage.state == "works":
            working.add(stage.name)
        state = {"works": "running", "waits": "waiting"}[stage.state] if running else f"not running for {quiet_s:.0f} s"
        numbers = (stage.pid, stage.processed, stage.lag, stage.dead_letters, stage.memory_mb)
        table.add_row(stage.name, stage.instance, state, *(str(number) for number in numbers), stage.note)
    console = Console()
    if not stages:
        console.print(f"no stage has run on {place.data} yet: start them with `moodwire up`")
        return 1
    console.print(table)
    silent = {source.source: source for source in silent_sources(store)}
    for feed in queries.feeds(store).itertuples():
        told = f"failing ({feed.failures} in a row): {feed.error}" if feed.failures else f"{feed.items} articles"
        if feed.source in silent:
            told = f"silent since {silent[feed.source].since:%Y-%m-%d %H:%M}: {silent[feed.source].reason}"
        console.print(f"feed {feed.source}: {told}", highlight=False, markup=False)
    sent = ", ".join(f"{count} {status}" for status, count in queries.deliveries(store).items())
    console.print(f"messages: {sent or 'none'}")
    return 0 if working == {stage.name for stage in stages} else 1


def dead_letters(place: Place, settings: Settings) -> int:
    """Each once, by its place."""
    if settings.stream.kind == "embedded" and not (place.log / f"{DEAD_LETTERS}.db").is_file():
        print("no dead letters")
        return 0
    log = open_log(place, settings)
    found = {}
    for message in log.records(DEAD_LETTERS):
        if (letter := _letter(message)) is None:
            print(f"offset {message.offset}: not a dead letter")
        else:
            found[letter.topic, letter.partition, letter.offset, letter.reason] = letter
    log.close()
    for letter in found.values():
        print(
            f"{letter.at:%Y-%m-%d %H:%M:%S}  {letter.stage}  "
            f"{letter.topic}/{letter.partition}/{letter.offset}  {letter.reason}"
        )
        if letter.excerpt:
            print(f"    {letter.excerpt[:160]!r}")
    print(f"{len(found)} dead letters")
    return 0


def retry(place: Place, settings: Settings) -> int:
    """Put the records of dead letters back into their topics, each once; what is still bad is set aside anew."""
    log = open_log(place, settings, "retry")
    back, gone = 0, 0
    with log.consumer(DEAD_LETTERS, "retry") as consumer:
        while messages := consumer.poll(100, timeout_s=1):
            letters = [letter for letter in map(_letter, messages) if letter is not None]
            for letter in {(letter.topic, letter.partition, letter.offset): letter for letter in letters}.values():
                record = log.record(letter.topic, letter.partition, letter.offset) if letter.topic in TOPICS else None
                if record is None:
                    gone += 1
                    continue
                log.append(letter.topic, [(record.key, record.value, record.partition)])
                back += 1
            consumer.commit({message.partition: message.offset + 1 for message in messages})
    log.close()
    print(f"{back} records put back; {gone} are no records of the log, or no longer in it")
    return 0


def _letter(message: Message) -> DeadLetter | None:
    try:
        letter = decode(message.value)
    except BadInput:
        return None
    return letter if isinstance(letter, DeadLetter) else None
