"""How improbable a count is: pure arithmetic on arrays. Probabilities are log10, so that they never saturate."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln

Floats = NDArray[np.float64]
LN10 = float(np.log(10.0))
SMALL = 1e-250  # below it doubles lose their digits
AT_ONCE = 128
MOST = 2**40  # stories, more than any window holds


def log10_tail(count: Any, mean: Any, dispersion: Any) -> Floats:
    """log10 P(N >= count) of a negative binomial of variance mean + dispersion * mean^2; 0 for no count."""
    n, mu, d = (np.asarray(value, dtype=np.float64) for value in (count, mean, dispersion))
    shape = 1 / np.maximum(d, 1e-9)
    mu = np.maximum(mu, 1e-12)
    p = betainc(np.maximum(n, 1e-9), shape, mu / (mu + shape))
    value = np.log(np.maximum(p, SMALL))
    far = (p < SMALL) & (n > mu)
    if far.any():
        # So far out the tail is its first term and a geometric series.
        first = gammaln(n + shape) - gammaln(shape) - gammaln(n + 1) + n * np.log(mu) + shape * np.log(shape)
        first = first - (n + shape) * np.log(mu + shape)
        ratio = np.minimum((n + shape) / (n + 1) * mu / (mu + shape), 1 - 1e-9)
        value = np.where(far, first - np.log1p(-ratio), value)
    return np.where(n > 0, np.minimum(value / LN10, 0.0), 0.0)


def log10_lower(stories: Any, negative: Any, share: Any) -> Floats:
    """log10 P(at most `negative` of `stories`) when each is negative with probability `share`."""
    n, k, s = (np.asarray(value, dtype=np.float64) for value in (stories, negative, share))
    p = betainc(np.maximum(n - k, 1e-9), k + 1, 1 - s)
    return np.where((k < n) & (s > 0), np.log10(np.maximum(p, SMALL)), 0.0)


def count_for(log10_p: Any, mean: Any, dispersion: Any, least: int = 1) -> Floats:
    """The smallest count, not below `least`, whose tail is at most 10**log10_p."""
    goal, mu, d = (np.asarray(value, dtype=np.float64) for value in np.broadcast_arrays(log10_p, mean, dispersion))
    if mu.size == 1:  # one call for many counts is quicker than many calls for one
        first = max(float(np.ceil(mu).item()), least)
        some = np.arange(first, first + AT_ONCE)
        enough = log10_tail(some, mu.item(), d.item()) <= goal.item()
        if enough.any() and (first == least or not enough[0]):
            return np.full(mu.shape, some[int(np.argmax(enough))])
    shape = mu.shape
    goal, mu, d = (value.ravel() for value in (goal, mu, d))
    low = np.full(mu.size, least - 1.0)  # not enough, or below `least`
    high = np.maximum(np.ceil(mu), least)
    todo = np.arange(mu.size)
    while len(todo):
        todo = todo[(log10_tail(high[todo], mu[todo], d[todo]) > goal[todo]) & (high[todo] < MOST)]
        low[todo] = high[todo]
        high[todo] *= 2
    while len(todo := np.flatnonzero(high - low > 1)):
        middle = np.floor((low[todo] + high[todo]) / 2)
        enough = log10_tail(middle, mu[todo], d[todo]) <= goal[todo]
        high[todo[enough]], low[todo[~enough]] = middle[enough], middle[~enough]
    return high.reshape(shape)
