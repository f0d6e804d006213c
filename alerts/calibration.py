"""How often a score comes up in quiet times: the rule's own past, pooled over its series. Pure arithmetic.

A model's tail probabilities are never quite right, and how many of a rule's overlapping looks are one, no formula
says. So scores (-log10 of the tail) are set against how often their peaks came in the past: the rate of peaks above a
high level is fitted by an exponential (peaks over threshold; Coles, An Introduction to Statistical Modeling of
Extreme Values, chapter 4). Of the very highest only their number counts, not how high they were: among them may be
true surges.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alerts.tails import LN10

BLOCK_S = 6 * 3600  # peaks are kept by block
WEEK_S = 7 * 86_400
FLOOR = 1.0  # lower scores are not kept
PEAKS = 40  # the fit stands on the highest so many, or twice the number sought
CENSORED = 6  # of which one in so many counts, but not how high it is
CROWD = 100  # the highest peaks, of which too many in one block are no chance
PRIOR_PEAKS = 2.0  # the theory weighs as much as so many in the rate …
PRIOR_EXCESSES = 5.0  # … and in the slope
LOOKS = 2.0  # independent looks in one window's length, by theory


class Curve(NamedTuple):
    """Peaks a week at or above a score u: rate * exp(-slope * (u - start))."""

    start: float
    rate: float
    slope: float

    def log10_rate(self, score: Any) -> Any:
        """log10 of the peaks a week, for the rule's series together."""
        return math.log10(self.rate) - self.slope / LN10 * (score - self.start)

    def score(self, rate: float) -> float:
        """The score that comes up so often a week."""
        return self.start + math.log(self.rate / rate) / self.slope


def curve(peaks: NDArray[np.float64], weeks: float, sought: float, theory: float, floor: float = FLOOR) -> Curve:
    """The fit to the peaks of so many weeks, where about `sought` a week are of interest.

    theory: peaks a week at or above score 0 if each probability were exact. floor: lower peaks are not told.
    """
    ordered = np.sort(peaks)[::-1]
    count = min(max(PEAKS, math.ceil(2 * sought * weeks)), max(len(ordered) - 1, 0))
    start = float(ordered[count]) if count else floor
    excesses = ordered[:count] - start
    above = math.ceil(count / CENSORED)
    if above:
        excesses[:above] = excesses[above - 1]
    by_theory = math.log(theory) - start * LN10
    by_past = math.log((count + 0.5) / weeks) if weeks else by_theory
    rate = math.exp((count * by_past + PRIOR_PEAKS * by_theory) / (count + PRIOR_PEAKS))
    slope = (count - above + PRIOR_EXCESSES) / (float(excesses.sum()) + PRIOR_EXCESSES / LN10)
    return Curve(start, rate, slope)


def summits(blocks: NDArray[np.float64], reach: int, floor: float = FLOOR) -> NDArray[np.float64]:
    """Of (series, blocks) only the peaks that are the highest within `reach` blocks on both sides; -inf elsewhere."""
    highest = blocks.copy()
    earlier = np.full_like(blocks, -np.inf)
    for shift in range(1, min(reach, blocks.shape[1] - 1) + 1):
        highest[:, :-shift] = np.maximum(highest[:, :-shift], blocks[:, shift:])
        highest[:, shift:] = np.maximum(highest[:, shift:], blocks[:, :-shift])
        earlier[:, shift:] = np.maximum(earlier[:, shift:], blocks[:, :-shift])
    return np.where((blocks >= floor) & (blocks >= highest) & (blocks > earlier), blocks, -np.inf)


def quiet(peaks: NDArray[np.float64], watched: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The watched blocks without those in which far more series peak than chance brings together: no quiet times."""
    use = watched.copy()
    for _ in range(3):
        within = peaks[:, use]
        within = within[np.isfinite(within)]
        if len(within) <= CROWD:
            break
        counts = (peaks >= np.partition(within, -CROWD)[-CROWD]).sum(axis=0)
        mean = counts[use].mean()
        calm = use & (counts <= mean + 4 * np.sqrt(mean) + 3)
        if calm.sum() == use.sum():
            break
        use = calm
    return use
