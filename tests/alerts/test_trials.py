"""Backtests that people ask for: in a process of their own, with what the pure backtest says."""

import random
import threading
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from alerts import trials
from moodwire.errors import BadInput
from moodwire.settings import ArticleRule, PickupRule, Rule, ScoreRule, ShareRule
from moodwire.store.articles import Draft, store_articles
from moodwire.store.commands import Backtest, give, progress
from moodwire.store.db import Store
from moodwire.store.scores import store_scores
from moodwire.trial import Trial
from tests.alerts.test_stage import Flow
from tests.helpers import T0, after, context, scored

RULE = Rule(name="r", series=("all",), baseline_days=1, timezone="UTC", minimum_stories=3, false_alarms_per_week=50)
DAY = 86_400
ASKED = Backtest(rules=(RULE,), start=after(2 * DAY), end=after(4 * DAY))


def fill(store: Store) -> None:
    """Quiet news each hour for four days, and twenty bad stories in ten minutes of the third."""
    times = [(3600.0 * hour, "neutral") for hour in range(96)] + [(2.5 * DAY + 30 * n, "negative") for n in range(20)]
    for number, (time, label) in enumerate(sorted(times)):
        draft = Draft(f"a{number}", "s", "", f"t{number}", "", "en", after(time), after(time + 1))
        store_articles(store, [draft], lambda new: new.id)
        store_scores(store, [scored(number, time, label)], timedelta(hours=2))


def test_a_backtest_finds_the_surge_and_tells_how_far_it_is(tmp_path: Path) -> None:
    c = context(tmp_path)
    fill(c.store)
    told: list[str] = []
    other = replace(RULE, name="other", minimum_stories=100)
    found = msgspec.json.decode(
        trials.trial(c.store, replace(ASKED, rules=(RULE, other)), 7200.0, told.append), type=Trial
    )
    assert {alarm.rule for alarm in found.alarms} == {"r"}
    assert found.alarms[0].at >= after(2.5 * DAY)
    assert [(row.rule, row.own) for row in found.settings if row.own] == [("r", True), ("other", True)]
    assert found.stories == sum(after(3600 * hour + 1) >= ASKED.start for hour in range(96)) + 20
    assert told == sorted(told)
    assert float(told[0]) == 0.0
    assert float(told[-1]) > 0.9


def test_it_is_carried_out_beside_the_live_alarms(tmp_path: Path) -> None:
    c = context(tmp_path, clock=lambda: datetime.now(UTC))
    fill(c.store)
    seq = give(c.store, trials.STAGE, ASKED, "ada", T0)
    none = give(c.store, trials.STAGE, replace(ASKED, end=after(2 * DAY + 1), start=after(2 * DAY)), "ada", T0)
    thread = threading.Thread(target=trials.run, args=(c,))
    thread.start()
    while not (progress(c.store, seq)[0] and progress(c.store, none)[0]):
        assert thread.is_alive()
        c.stop.wait(0.1)
    c.stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert msgspec.json.decode(progress(c.store, seq)[1], type=Trial).alarms
    assert not msgspec.json.decode(progress(c.store, none)[1], type=Trial).alarms


@pytest.mark.parametrize("seed", [1, 2])
def test_plain_rules_would_have_said_what_the_stage_said(tmp_path: Path, seed: int) -> None:
    """News of some hours through the stage, tick by tick; then the trial over what it left in the store."""
    rules = (
        ScoreRule(name="score", series=("all", "entity:*"), below=-0.2, minimum_stories=3, cooldown_s=600),
        ShareRule(name="share", series=("entity:ACME",), above=0.5, pending_s=150, window_s=1800, cooldown_s=300),
        ArticleRule(name="article", series=("entity:*",), topic="fraud", window_s=900, cooldown_s=300),
        PickupRule(name="pickup", sources=3, window_s=1200, cooldown_s=600),
    )
    flow, rng = Flow(tmp_path, *rules), random.Random(seed)
    hours, bad = 4, 2  # of which the second is the bad one
    events: list[tuple[float, int | None, str, list[str]]] = []
    for _ in range(25 * hours):
        series = ["all", rng.choice(("entity:ACME", "entity:OTHER"))] + ["topic:fraud"] * (rng.random() < 0.1)
        heappush(events, (rng.uniform(0, 3600 * hours), None, "wire", series))
    for tick in range(60, 3600 * (hours + 2), 60):
        while events and events[0][0] + 1 < tick:
            time, first, source, series = heappop(events)
            moods = ("negative",) if time // 3600 + 1 == bad else ("negative", "neutral", "positive")
            number = flow.number if first is None else first
            flow.copy(number, time, source, rng.choice(moods), series)
            if first is None and rng.random() < 0.3:  # others carry it later
                for other in ("post", "herald", "echo"):
                    heappush(events, (time + rng.uniform(0, 900), number, other, series))
        flow.tick(tick)
    asked = Backtest(rules=rules[:2], start=T0, end=after(3600 * (hours + 2)))
    found = []
    for pair in (rules[:2], rules[2:]):
        answer = trials.trial(flow.context.store, replace(asked, rules=pair), 7200.0, lambda _: None)
        found += msgspec.json.decode(answer, type=Trial).alarms
    began = {(a.rule, a.series, a.since): a for a in flow.alerts() if a.change == "fires"}
    ended = {(a.rule, a.series, a.since): a.at for a in flow.alerts() if a.change == "over"}
    live = {(key[:2], a.at, ended.get(key), a.reason) for key, a in began.items()}
    assert {((a.rule, a.series), a.at, a.until, a.reason) for a in found} == live
    assert {a.rule for a in found} == {rule.name for rule in rules}


def test_a_trial_of_a_plain_rule_has_one_setting(tmp_path: Path) -> None:
    c = context(tmp_path)
    fill(c.store)
    told: list[str] = []
    plain = ShareRule(name="share", series=("all",), above=0.5)
    answer = trials.trial(c.store, replace(ASKED, rules=(RULE, plain)), 7200.0, told.append)
    found = msgspec.json.decode(answer, type=Trial)
    assert [(row.rule, row.per_week, row.own, row.alarms) for row in found.settings][-1] == ("share", None, True, 1)
    assert found.stories == sum(after(3600 * hour + 1) >= ASKED.start for hour in range(96)) + 20
    assert {alarm.rule for alarm in found.alarms} == {"r", "share"}
    assert told == sorted(told)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ASKED, end=ASKED.start),
        replace(ASKED, end=ASKED.start + timedelta(days=400)),
        replace(ASKED, rules=()),
        replace(ASKED, rules=(RULE, RULE)),
        replace(ASKED, rules=tuple(replace(RULE, name=name) for name in "abc")),
    ],
)
def test_what_cannot_be_tested_is_told_at_once(tmp_path: Path, wrong: Backtest) -> None:
    with pytest.raises(BadInput, match="a backtest needs"):
        give(context(tmp_path).store, trials.STAGE, wrong, "ada", T0)
