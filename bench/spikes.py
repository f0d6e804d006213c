"""How well surges are found, at equal measured rates of false alarms: ours, simple methods, and an oracle.

./run bench spikes [--full] [--data DIR]      DIR holds stocknet/ (or set MOODWIRE_DATA; else left out)

Simulated series are looked at every 15 min over windows of 15 min, 1 h, 4 h and 24 h. The oracle knows the true law of
each count and takes exact tails over the same windows. An alarm is a look at or above the threshold with none in the
24 h before; each method's threshold is set so that the quiet series raise the stated number of alarms.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import nbinom, poisson

from alerts.counts import Counts
from alerts.detect import REFRESH_S, Detector
from moodwire.settings import Rule

Array = NDArray[Any]
CELL_S = 900
HOUR, DAY, WEEK = 4, 96, 672  # cells
SPANS = (1, 4, 16, 96)
T0 = 1_704_067_200  # a Monday, 00:00 UTC
HISTORY = 4 * WEEK
RATES = (0.05, 0.1, 0.25)  # false alarms a series-week
LIFTS = (1.5, 2.0, 3.0, 5.0, 10.0)
QUIET = DAY  # cells without an alarm, before the next is one of its own
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
    return np.where(hour > 5, hour / np.maximum(week, 1e-3), 0.0)


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

    def __init__(self, series: int, per_week: float, minimum: int = 4) -> None:
        self.counts = Counts(CELL_S, 2 * 86_400, 40 * 86_400)
        self.rule = Rule(name="bench", series=("*",), false_alarms_per_week=per_week, minimum_stories=minimum)
        self.detector = Detector(self.rule, self.counts)
        self.rows = [self.counts.row(f"s{number:05d}") for number in range(series)]

    def run(self, stories: Array, negative: Array, first: int, quiet: bool = True) -> Array:
        """Scores of these cells, the first of which is number `first` since T0.

        quiet: they count for the calibration. Here each series has its burst at the same time, as never happens.
        """
        found = np.full(negative.shape, -np.inf, np.float32)
        for cell in range(negative.shape[1]):
            start_s = T0 + (first + cell) * CELL_S
            self.counts.put_all(start_s, stories[:, cell], negative[:, cell])
            now_s = start_s + CELL_S
            if now_s % REFRESH_S == 0:
                self.detector.refresh(now_s, T0, self.rows, {})
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
    levels = np.unique(scores[np.isfinite(scores)])
    low, high = 0, len(levels)
    # From the top: alarms grow as the threshold falls, as long as they are rare.
    levels = levels[-min(len(levels), max(2000, round(200 * allowed))) :]
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if onsets(scores, levels[middle]) <= allowed else (middle + 1, high)
    return float(levels[low]) if low < len(levels) else float(np.nextafter(levels[-1], np.inf))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--family", default="")
    parser.add_argument("--data", type=Path, default=os.environ.get("MOODWIRE_DATA"))
    options = parser.parse_args()
    series, weeks, lifts = (400, 26, LIFTS) if options.full else (100, 8, (2.0, 3.0, 5.0))
    for family in FAMILIES:
        if options.family in family.name:
            began = time.monotonic()
            report(family, list(measure(family, series, weeks, lifts)))
            print(f"({time.monotonic() - began:.0f} s)\n")


def report(family: Family, rows: Sequence[tuple[Any, ...]]) -> None:
    for row in rows:
        if row[0] == "set":
            print(f"{family.name}: set {row[1]}, measured {row[2]:.3f} false alarms a series-week")
    print()
    print("| rate | burst | oracle | ours | " + " | ".join(SIMPLE) + " |")
    table: dict[tuple[Any, ...], dict[str, Found]] = {}
    for row in rows:
        if row[0] != "set":
            table.setdefault(row[:3], {})[row[3]] = row[4]
    for (rate, lift, length), found in table.items():
        cells = " | ".join(
            f"{found[name].recall:.2f} ({found[name].delay_h:.2g} h)" for name in ("oracle", "ours", *SIMPLE)
        )
        print(f"| {rate} | x{lift:g}, {length / HOUR:g} h | {cells} |")


if __name__ == "__main__":
    main()
