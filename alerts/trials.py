"""Backtests that people ask for: one at a time, in a process of its own, which tells how far it is."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec

from alerts.backtest import Alarm, AnyTried, Copy, Story, Summary, run_plain, summaries
from alerts.backtest import run as run_surge
from alerts.watch import Watch
from moodwire.records import EPOCH, from_seconds, seconds
from moodwire.settings import AnyStoryRule, ArticleRule, Rule
from moodwire.stage import Context
from moodwire.store.commands import LOOK_S, Backtest, Given, done, obey, say
from moodwire.store.db import Store
from moodwire.store.detection import fresh_copies, fresh_stories
from moodwire.trial import Trial, TrialAlarm, TrialSetting

STAGE = "backtests"  # of the alarms
TICK_S = 60
NICE = 10  # live alarms come first
STEPS = 50  # that progress is told in
SHOWN = 200  # alarms
MOST_SERIES = 8
T = TypeVar("T")


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
    past = past_of(store, rules, fresh_s, start, end)
    if not past.seen_s:
        return "there is no fresh news in that time"
    first, last = seconds(start), seconds(end)
    alarms = [alarm for alarm in alarms_of(rules, past, fresh_s, last, tell) if alarm.at_s >= first]
    found = Trial(
        start=start,
        end=end,
        stories=sum(seen_s >= first for seen_s in past.seen_s),
        settings=tuple(_setting(row) for row in summaries(rules, alarms, last - first)),
        alarms=tuple(_alarm(alarm) for alarm in [each for each in alarms if each.factor == 1][-SHOWN:]),
    )
    return msgspec.json.encode(found).decode()


class Past(NamedTuple):
    """What a backtest of a span needs: its news, and what the rules remember of the time before."""

    stories: list[Story]  # for rules of kind surge
    copies: list[Copy]  # for plain rules
    seen_s: list[int]  # of the fresh stories


def past_of(store: Store, rules: Sequence[AnyTried], fresh_s: float, start: datetime, end: datetime) -> Past:
    fresh = timedelta(seconds=fresh_s)
    surges, plain = kinds(rules)
    stories: list[Story] = []
    copies: list[Copy] = []
    if surges:
        memory = timedelta(seconds=Watch(surges, fresh_s).memory_s)
        rows = fresh_stories(store, max(start - memory, EPOCH), end, fresh)
        stories = [Story(seconds(row.seen_at), row.series, seconds(row.start), row.negative) for row in rows]
    if plain:
        memory = timedelta(seconds=max(rule.window_s + rule.pending_s + rule.cooldown_s for rule in plain))
        names = {"all", *(name for rule in plain for name in rule.series)}
        names |= {f"topic:{rule.topic}" for rule in plain if isinstance(rule, ArticleRule)}
        copies = [
            Copy(
                seconds(row.seen_at), row.series, seconds(row.start), row.story_id, row.source, row.label,
                row.score_e4 / 1e4, row.first_story,
            )
            for row in fresh_copies(store, names, max(start - memory, EPOCH), end, fresh)
        ]  # fmt: skip
    seen_s = [story.seen_s for story in stories if story.series == "all"]
    seen_s = seen_s or [copy.seen_s for copy in copies if copy.series == "all" and copy.first]
    return Past(stories, copies, seen_s)


def alarms_of(
    rules: Sequence[AnyTried], past: Past, fresh_s: float, end_s: int, tell: Callable[[str], None]
) -> list[Alarm]:
    """tell: is told how far it is, as `0.42`."""
    surges, plain = kinds(rules)
    told = _Told(len(past.stories) + len(past.copies), tell)
    alarms = run_surge(surges, told.telling(past.stories), fresh_s, TICK_S, end_s) if surges else []
    alarms += run_plain(plain, told.telling(past.copies), TICK_S, end_s) if plain else []
    return sorted(alarms, key=lambda alarm: alarm.at_s)


def kinds(rules: Sequence[AnyTried]) -> tuple[list[Rule], list[AnyStoryRule]]:
    """Those of kind surge, and the plain ones."""
    return [rule for rule in rules if isinstance(rule, Rule)], [rule for rule in rules if not isinstance(rule, Rule)]


class _Told:
    """Tells how far a backtest is."""

    def __init__(self, total: int, tell: Callable[[str], None]) -> None:
        self._total = total
        self._tell = tell
        self._done = 0

    def telling(self, items: Sequence[T]) -> Iterator[T]:
        step = max(self._total // STEPS, 1)
        for item in items:
            if self._done % step == 0:
                self._tell(f"{self._done / self._total:.2f}")
            self._done += 1
            yield item


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
