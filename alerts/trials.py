"""Backtests that people ask for: one at a time, in a process of its own, which tells how far it is."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from alerts.backtest import Alarm, Story, Summary, summaries
from alerts.backtest import run as decide
from alerts.watch import Watch
from moodwire.records import EPOCH, from_seconds, seconds
from moodwire.settings import Rule
from moodwire.stage import Context
from moodwire.store.commands import LOOK_S, Backtest, Given, done, obey, say
from moodwire.store.db import Store
from moodwire.store.detection import fresh_stories
from moodwire.trial import Trial, TrialAlarm, TrialSetting

STAGE = "backtests"  # of the alarms
TICK_S = 60
NICE = 10  # live alarms come first
STEPS = 50  # that progress is told in
SHOWN = 200  # alarms
MOST_SERIES = 8


def run(context: Context) -> None:
    """Until the stop. What was begun and not finished is begun again by the next one."""
    spawn = multiprocessing.get_context("spawn")

    def carry_out(each: Given) -> None:
        url = context.store.url.render_as_string(hide_password=False)
        word = msgspec.json.encode(each.command)
        worker = spawn.Process(target=work, args=(url, each.seq, word, context.settings.windows.fresh_s), daemon=True)
        worker.start()
        while worker.is_alive() and not context.stop.wait(LOOK_S / 5):
            pass
        if worker.is_alive():
            worker.terminate()
        elif worker.exitcode:
            with context.store.write() as connection:
                done(connection, each.seq, context.clock(), "it failed; the log of the alarms tells why")

    obey(context.store, STAGE, context.stop, carry_out)


def work(url: str, seq: int, word: bytes, fresh_s: float) -> None:
    """In the process of its own."""
    os.nice(NICE)
    store = Store(url)
    command = msgspec.json.decode(word, type=Backtest)
    found = trial(store, command, fresh_s, lambda text: say(store, seq, text))
    with store.write() as connection:
        done(connection, seq, store.now(), found)
    store.close()


def trial(store: Store, command: Backtest, fresh_s: float, tell: Callable[[str], None]) -> str:
    """A Trial as JSON, or in words why there is none. tell: is told how far it is, as `0.42`."""
    rules, start, end = command.rules, command.start, command.end
    stories = stories_for(store, rules, fresh_s, start, end)
    if not stories:
        return "there is no fresh news in that time"
    first, last = seconds(start), seconds(end)
    counted = sum(story.series == "all" and story.seen_s >= first for story in stories)
    told = decide(rules, _telling(stories, tell), fresh_s, TICK_S, last)
    alarms = [alarm for alarm in told if alarm.at_s >= first]
    found = Trial(
        start=start,
        end=end,
        stories=counted,
        settings=tuple(_setting(row) for row in summaries(rules, alarms, last - first)),
        alarms=tuple(_alarm(alarm) for alarm in [each for each in alarms if each.factor == 1][-SHOWN:]),
    )
    return msgspec.json.encode(found).decode()


def stories_for(store: Store, rules: Sequence[Rule], fresh_s: float, start: datetime, end: datetime) -> list[Story]:
    """What a backtest of a span needs: its stories, and those before it that the rules remember."""
    memory = timedelta(seconds=Watch(rules, fresh_s).memory_s)
    rows = fresh_stories(store, max(start - memory, EPOCH), end)
    return [Story(seconds(row.seen_at), row.series, seconds(row.start), row.negative) for row in rows]


def _telling(stories: Sequence[Story], tell: Callable[[str], None]) -> Iterator[Story]:
    step = max(len(stories) // STEPS, 1)
    for at, story in enumerate(stories):
        if at % step == 0:
            tell(f"{at / len(stories):.2f}")
        yield story


def _setting(row: Summary) -> TrialSetting:
    return TrialSetting(
        rule=row.rule,
        per_week=row.per_week,
        own=row.factor == 1,
        alarms=row.alarms,
        weekly=row.weekly,
        series=tuple(row.by_series[:MOST_SERIES]),
    )


def _alarm(alarm: Alarm) -> TrialAlarm:
    at = from_seconds(alarm.at_s)
    until = None if alarm.until_s is None else from_seconds(alarm.until_s)
    return TrialAlarm(rule=alarm.rule, series=alarm.series, at=at, until=until, reason=alarm.reason)
