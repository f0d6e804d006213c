"""How well surges are found, at equal measured rates of false alarms: ours, simple methods, and an oracle.

./run bench spikes [--full] [--only NAME] [--data DIR]      DIR holds stocknet/ (or set MOODWIRE_DATA)

Simulated series are looked at every 15 min over windows of 15 min, 1 h, 4 h and 24 h. The oracle knows the true law of
each count and takes exact tails over the same windows. An alarm is a look at or above the threshold with none in the
24 h before; each method's threshold is set so that the quiet series raise the stated number of alarms.
"""

import argparse
import copy
import gzip
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import nbinom, poisson

from alerts.counts import Count, Counts
from alerts.detect import Detector, due
from alerts.watch import Watch
from moodwire.settings import Rule

Array = NDArray[Any]
CELL_S = 900
HOUR, DAY, WEEK = 4, 96, 672  # cells
SPANS = (1, 4, 16, 96)
T0 = 1_704_067_200  # a Monday, 00:00 UTC
T0_STOCKNET = 1_389_571_200  # a Monday too, in 2014
HISTORY = 4 * WEEK
RATES = (0.05, 0.1, 0.25)  # false alarms a series-week
LIFTS = (1.5, 2.0, 3.0, 5.0, 10.0)
QUIET = DAY  # cells without an alarm, before the next is one of its own
FEW = 1000  # levels of a score
SEED = 7


class Family(NamedTuple):
    name: str
    base: float  # negative stories an hour, in the mean
    seasonal: bool = False
    drift: float = 0.0  # of the log rate: standard deviation of a day's step
    dispersion: float = 0.0  # of a cell: variance = mean + dispersion * mean^2
    goal: float = 0.9  # of the oracle's recall


FAMILIES = (
    Family("quiet, .1/h", 0.1),
    Family("low, .5/h", 0.5),
    Family("steady, 2/h", 2.0),
    Family("high, 10/h", 10.0),
    Family("seasonal, 2/h", 2.0, seasonal=True, goal=0.8),
    Family("drifting, 2/h", 2.0, drift=0.05, goal=0.8),
    Family("over-dispersed, 2/h", 2.0, dispersion=2.0, goal=0.8),
)


def rates(family: Family, series: int, cells: int, rng: np.random.Generator) -> Array:
    """The true mean of each cell, (series, cells)."""
    base = family.base / HOUR * np.exp(rng.normal(0, 0.3, (series, 1)) - 0.045)
    mean = np.broadcast_to(base, (series, cells)).copy()
    if family.seasonal:
        hours = (np.arange(cells) // HOUR - 5) % 168  # New York, winter
        day, hour = hours // 24, hours % 24
        shape = 0.2 + 1.8 * np.exp(-(((hour - 11) / 4.5) ** 2))
        shape = np.where(day >= 5, 0.35 * shape, shape)
        mean *= shape / shape[: min(WEEK, cells)].mean()
    if family.drift:
        steps = rng.normal(0, family.drift / DAY**0.5, (series, cells))
        mean *= np.exp(np.cumsum(steps, axis=1))
    return mean


def draw(mean: Array, family: Family, rng: np.random.Generator) -> Array:
    if family.dispersion:
        mean = rng.gamma(1 / family.dispersion, mean * family.dispersion)
    return rng.poisson(mean)


def sums(values: Array, span: int) -> Array:
    """Rolling sums over the last `span` cells."""
    total = np.cumsum(values, axis=1, dtype=np.float64)
    total[:, span:] -= total[:, :-span].copy()
    return total


# --- the methods: scores of (series, cells), higher is stranger -------------------------------------------------------


def oracle(negative: Array, mean: Array, family: Family, first: int) -> Array:
    best = np.zeros(negative[:, first:].shape, np.float32)
    for span in SPANS:
        n, mu = sums(negative, span)[:, first:], sums(mean, span)[:, first:]
        if family.dispersion:
            shape = sums((mean > 0) / family.dispersion, span)[:, first:]
            tail = nbinom.logsf(n - 1, shape, shape / (shape + mu))
        else:
            tail = poisson.logsf(n - 1, mu)
        best = np.maximum(best, (-tail / np.log(10)).astype(np.float32))
    return best


def fixed(negative: Array, first: int) -> Array:
    return sums(negative, HOUR)[:, first:]


def five_and_three(negative: Array, first: int) -> Array:
    """More than 5 in the hour, and so many times the mean hour of 7 days."""
    hour, week = sums(negative, HOUR)[:, first:], sums(negative, WEEK)[:, first:] / 168
    return np.where(hour > 5, hour / np.maximum(week, 1e-3), -np.inf)


def rolling_z(negative: Array, first: int) -> Array:
    """By the mean and deviation of the last 7 days, over each window."""
    best = np.full(negative[:, first:].shape, -np.inf)
    for span in SPANS:
        n = sums(negative, span)
        mean = sums(n, WEEK) / WEEK
        deviation = np.sqrt(np.maximum(sums(n**2, WEEK) / WEEK - mean**2, 1e-3))
        best = np.maximum(best, ((n - mean) / deviation)[:, first:])
    return best


def ewma_z(negative: Array, first: int) -> Array:
    """By an exponentially weighted mean and deviation with a half-life of 3 days, over each window."""
    best = np.full(negative[:, first:].shape, -np.inf)
    keep = 0.5 ** (1 / (3 * DAY))
    for span in SPANS:
        n = sums(negative, span)
        mean = lfilter([1 - keep], [1, -keep], n, axis=1)
        deviation = np.sqrt(np.maximum(lfilter([1 - keep], [1, -keep], n**2, axis=1) - mean**2, 1e-3))
        best = np.maximum(best, ((n - mean) / deviation)[:, first:])
    return best


def poisson_tail(negative: Array, first: int) -> Array:
    """The Poisson tail by the mean of the last 28 days, over each window."""
    best = np.zeros(negative[:, first:].shape)
    mean = np.maximum(
        sums(negative, HISTORY)[:, first:] / np.minimum(np.arange(first, negative.shape[1]) + 1, HISTORY), 1e-4
    )
    for span in SPANS:
        n = sums(negative, span)[:, first:]
        best = np.maximum(best, -poisson.logsf(n - 1, mean * span) / np.log(10))
    return best


class Ours:
    """The product's detector, one rule over all the series."""

    def __init__(self, series: int, per_week: float, start_s: int = T0) -> None:
        self.counts = Counts(CELL_S, 2 * 86_400, 40 * 86_400)
        self.rule = Rule(name="bench", series=("*",), false_alarms_per_week=per_week, minimum_stories=3)
        self.detector = Detector(self.rule, self.counts)
        self._start_s = start_s
        self.rows = [self.counts.row(f"s{number:05d}") for number in range(series)]

    def run(self, stories: Array, negative: Array, first: int, quiet: bool = True) -> Array:
        """Scores of these cells, the first of which is number `first`.

        quiet: they count for the calibration. Here each series has its burst at the same time, as never happens.
        """
        found = np.full(negative.shape, -np.inf, np.float32)
        for cell in range(negative.shape[1]):
            start_s = self._start_s + (first + cell) * CELL_S
            self.counts.put_all(start_s, stories[:, cell], negative[:, cell])
            now_s = start_s + CELL_S
            if due(now_s, self._start_s) == now_s:
                self.detector.refresh(now_s, self._start_s, self.rows, {})
            if self.detector.ready:
                look = self.detector.look(self.rows, now_s)
                if quiet:
                    self.detector.note(self.rows, now_s, look)
                found[:, cell] = look.score
        return found


SIMPLE: dict[str, Callable[[Array, int], Array]] = {
    "fixed threshold": fixed,
    "EWMA z-score": ewma_z,
    "rolling z-score": rolling_z,
    "Poisson tail": poisson_tail,
    "> 5 and > 3 x mean": five_and_three,
}


def onsets(scores: Array, threshold: float) -> int:
    """Alarms: looks at or above the threshold with none in the day before."""
    above = scores >= threshold
    recent = np.cumsum(above, axis=1)
    before = np.concatenate((np.zeros((len(above), 1)), recent[:, :-1]), axis=1)
    before[:, QUIET:] -= recent[:, : before.shape[1] - QUIET]
    return int((above & (before == 0)).sum())


def threshold(scores: Array, allowed: float) -> float:
    """The lowest threshold at which the quiet scores raise at most so many alarms."""
    levels = np.unique(scores[np.isfinite(scores)])[::-1]
    # From the top in growing steps: far below, where all is above the threshold, alarms are few again. Counts have few
    # levels, and a step might lead there.
    good, bad = -1, 0
    while bad < len(levels) and onsets(scores, levels[bad]) <= allowed:
        good, bad = bad, 2 * bad + 1 if len(levels) > FEW else bad + 1
    bad = min(bad, len(levels))
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if onsets(scores, levels[middle]) <= allowed else (good, middle)
    if good >= 0:
        return float(levels[good])
    return float(np.nextafter(levels[0], np.inf)) if len(levels) else np.inf


class Found(NamedTuple):
    recall: float
    delay_h: float  # median
    late_h: float  # 90th percentile


def judged(scores: Array, starts: Array, length: int, level: float) -> Found:
    """Bursts from `starts` on (cells): found when a look within them is at or above the level."""
    inside = (np.arange(scores.shape[1]) >= starts[:, None]) & (np.arange(scores.shape[1]) < starts[:, None] + length)
    hits = (scores >= level) & inside
    delays = (hits.argmax(axis=1) - starts + 1)[hits.any(axis=1)] / HOUR
    return Found(
        float(hits.any(axis=1).mean()),
        float(np.median(delays)) if len(delays) else np.nan,
        float(np.quantile(delays, 0.9)) if len(delays) else np.nan,
    )


def measure(family: Family, series: int, weeks: int, lifts: Sequence[float]) -> Iterator[tuple[Any, ...]]:
    """Rows of (rate, lift, cells, method, Found), and the set against the measured rate."""
    rng = np.random.default_rng(SEED)
    total = HISTORY + weeks * WEEK
    mean = rates(family, series, total, rng)
    negative = draw(mean, family, rng)
    stories = negative + rng.poisson(2 * mean)
    ours = Ours(series, 0.1 * series)
    ours.run(stories[:, :HISTORY], negative[:, :HISTORY], 0)
    snapshot = copy.deepcopy(ours)
    quiet = {name: method(negative, HISTORY) for name, method in SIMPLE.items()}
    quiet["oracle"] = oracle(negative, mean, family, HISTORY)
    quiet["ours"] = ours.run(stories[:, HISTORY:], negative[:, HISTORY:], HISTORY)
    weeks_seen = series * weeks
    for rate in RATES:
        measured = onsets(quiet["ours"], -np.log10(rate * series)) / weeks_seen
        yield ("set", rate, measured)
    levels = {(name, rate): threshold(scores, rate * weeks_seen) for name, scores in quiet.items() for rate in RATES}
    near = mean[:, : HISTORY + 2 * DAY + 1]
    for length in SPANS:
        for lift in lifts:
            starts = rng.integers(0, DAY, series)
            inside = np.zeros(near.shape, bool)
            for number, start in enumerate(starts):
                inside[number, HISTORY + start : HISTORY + start + length] = True
            more = draw(np.where(inside, near * lift, near)[:, HISTORY:], family, rng)
            bad = np.concatenate((negative[:, :HISTORY], more), axis=1)
            found = {name: method(bad, HISTORY) for name, method in SIMPLE.items()}
            # The oracle knows the law of quiet times; the burst is what it must find.
            found["oracle"] = oracle(bad, near, family, HISTORY)
            end = int((starts + length).max())
            run = copy.deepcopy(snapshot)
            shown = run.run(
                more[:, :end] + rng.poisson(2 * near[:, HISTORY : HISTORY + end]), more[:, :end], HISTORY, False
            )
            found["ours"] = shown
            for name, scores in found.items():
                for rate in RATES:
                    yield (rate, lift, length, name, judged(scores, starts, length, levels[name, rate]))


def report(family: Family, rows: Sequence[tuple[Any, ...]]) -> None:
    for row in rows:
        if row[0] == "set":
            print(f"{family.name}: set {row[1]}, measured {row[2]:.3f} false alarms a series-week")
    table: dict[tuple[Any, ...], dict[str, Found]] = {}
    for row in rows:
        if row[0] != "set":
            table.setdefault(row[:3], {})[row[3]] = row[4]
    print(f"\n| a week | burst | oracle | ours | {' | '.join(SIMPLE)} |\n|{'---|' * (4 + len(SIMPLE))}")
    for (rate, lift, length), found in table.items():
        if rate == 0.1:
            cells = " | ".join(_cell(found[name]) for name in ("oracle", "ours", *SIMPLE))
            print(f"| {rate} | {lift:g} x, {length / HOUR:g} h | {cells} |")
    names = ("oracle", "ours", *SIMPLE)
    means = {name: float(np.mean([found[name].recall for found in table.values()])) for name in names}
    told = [found for found in table.values() if found["oracle"].recall > 0.3]
    delay, late = (
        float(np.mean([getattr(found["ours"], field) / getattr(found["oracle"], field) for found in told]))
        for field in ("delay_h", "late_h")
    )
    least = min(found["ours"].recall / found["oracle"].recall for found in told)
    behind = [
        (key, name, found[name].recall - found["ours"].recall, found[name].recall - found["oracle"].recall)
        for key, found in table.items()
        for name in SIMPLE
        if found[name].recall > found["ours"].recall + 0.05
    ]
    told_behind = "; ".join(
        f"{name} by {by:.2f} (the oracle by {its:.2f}) at {key[0]}, {key[1]:g} x, {key[2] / HOUR:g} h"
        for key, name, by, its in behind
    )
    open_ = [found for found in table.values() if max(found[name].recall for name in SIMPLE) < 0.95]
    best = np.mean([max(found[name].recall for name in SIMPLE) for found in open_])
    print(
        f"\nmean recall over all bursts and rates: {', '.join(f'{name} {mean:.3f}' for name, mean in means.items())}\n"
        f"ours / oracle: recall {means['ours'] / means['oracle']:.2f}, at least {least:.2f} where the oracle's is over "
        f".3 (goal {family.goal}); median delay {delay:.2f} (goal 1.25), p90 {late:.2f}\n"
        f"where the best simple method of each burst is under .95: it {best:.3f} in the mean, "
        f"ours {np.mean([found['ours'].recall for found in open_]):.3f}, of {len(open_)} bursts and rates\n"
        f"more than .05 behind a simple method in {len(behind)} of {len(table) * len(SIMPLE)}, the oracle "
        f"behind it too in {sum(its > 0 for *_, its in behind)}: {told_behind}"
    )


def _cell(found: Found) -> str:
    return f"{found.recall:.2f} ({found.delay_h:.2g} h)" if found.recall else "0"


# --- real times: StockNet ---------------------------------------------------------------------------------------------


def stocknet(folder: Path, sizes: Sequence[int]) -> None:
    """Bursts of negative stories put into StockNet's tickers. Each of its tweets is negative with probability .3, by
    its id: what is real here is when and about whom people write.
    """
    cells: dict[tuple[str, int], list[int]] = {}
    with gzip.open(folder / "stocknet_stream.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            both = cells.setdefault(
                (row["ticker"], int(datetime.fromisoformat(row["ts"]).timestamp() - T0_STOCKNET) // CELL_S), [0, 0]
            )
            both[0] += 1
            both[1] += zlib.crc32(str(row["id"]).encode()) % 10 < 3
    names = sorted({name for name, _ in cells})
    split, weeks = 8 * WEEK, 12
    counts = np.zeros((2, len(names), split + weeks * WEEK), np.int64)
    for (name, cell), both in cells.items():
        if 0 <= cell < counts.shape[2]:
            counts[:, names.index(name), cell] += both
    stories, negative = counts
    ours = Ours(len(names), 0.1 * len(names), T0_STOCKNET)
    ours.run(stories[:, :split], negative[:, :split], 0)
    snapshot = copy.deepcopy(ours)
    quiet = {name: method(negative, split) for name, method in SIMPLE.items()}
    quiet["ours"] = ours.run(stories[:, split:], negative[:, split:], split)
    measured = onsets(quiet["ours"], -np.log10(0.1 * len(names))) / len(names) / weeks
    print(f"StockNet, {len(names)} tickers, 8 weeks to learn, {weeks} to count alarms: set .1, measured {measured:.3f}")
    levels = {name: threshold(scores, 0.1 * len(names) * weeks) for name, scores in quiet.items()}
    print(f"\n| burst | ours | {' | '.join(SIMPLE)} |\n|{'---|' * (2 + len(SIMPLE))}")
    rng = np.random.default_rng(SEED)
    for length in SPANS:
        for size in sizes:
            starts = rng.integers(0, DAY, len(names))
            more = np.zeros((len(names), 3 * DAY), np.int64)
            for number, start in enumerate(starts):
                np.add.at(more[number], start + rng.integers(0, length, size), 1)
            bad = negative[:, : split + 3 * DAY].copy()
            bad[:, split:] += more
            end = int((starts + length).max())
            everything = stories[:, split : split + end] + more[:, :end]
            shown = copy.deepcopy(snapshot).run(everything, bad[:, split : split + end], split, False)
            found = [judged(shown, starts, length, levels["ours"])]
            found += [judged(method(bad, split), starts, length, levels[name]) for name, method in SIMPLE.items()]
            print(f"| {size} stories in {length / HOUR:g} h | {' | '.join(_cell(each) for each in found)} |")


# --- cost -------------------------------------------------------------------------------------------------------------


def cost(series: int) -> None:
    """A tick at which all of so many series have news, on one core."""
    rng = np.random.default_rng(SEED)
    watch = Watch([Rule(name="cost", series=("*",))], 7200)
    rates_ = rng.gamma(0.5, 0.5, series)
    names = [f"entity:{number:05d}" for number in range(series)]
    for start in range(T0, T0 + 30 * 86_400, 8 * 3600):
        for name, count in zip(names, rng.poisson(8 * rates_), strict=True):
            watch.take(name, start, Count(int(count) + 1, int(count)))
    now = T0 + 30 * 86_400
    took = []
    for tick in range(12):
        for name in names:
            watch.take(name, now + tick * 60, Count(2, tick % 2))
        began = time.process_time()
        watch.tick(now + tick * 60 + 60)
        watch.learnt()
        took.append(time.process_time() - began)
    plain = sorted(took[1:])
    print(
        f"\n{series} series with news at one tick: {plain[len(plain) // 2]:.2f} s of one core, at most "
        f"{plain[-1]:.2f} s (goal 1 s); when baselines are made anew, once a day, {took[0]:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="400 series, 26 weeks; without it 100 and 8")
    parser.add_argument("--only", default="", help="families whose name holds this, or stocknet, or cost")
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    options = parser.parse_args()
    series, weeks, lifts = (400, 26, LIFTS) if options.full else (100, 8, (2.0, 3.0, 5.0))
    for family in FAMILIES:
        if options.only in family.name:
            report(family, list(measure(family, series, weeks, lifts)))
            print(flush=True)
    if options.only in "stocknet":
        if options.data is None:
            sys.exit("real data are needed: --data DIR or MOODWIRE_DATA, with stocknet/ in it")
        stocknet(Path(options.data) / "stocknet", (3, 5, 10, 20))
    if options.only in "cost":
        cost(10_000)


if __name__ == "__main__":
    main()
