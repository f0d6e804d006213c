"""What is expected of each series by its past: level, rhythm of the week, dispersion. Pure arithmetic on arrays.

In the manner of the improved Farrington method (Noufaily et al., Statistics in Medicine 32, 2013): the past's own
outliers weigh less, counts are negative binomial. What a series is too thin to tell it borrows from the others of its
rule, as far as these are alike (empirical Bayes: Gelman et al., Bayesian Data Analysis, 3rd ed., chapters 2 and 5).
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WEEK_H = 168
HALF_LIFE_H = 10 * 24.0  # the older, the less an hour weighs
OUTLIER = 2.58  # standardised residuals above it weigh less
RHYTHM_FROM_H = 7 * 24  # of history, before the hours of the day and week are told apart
PRIOR_STORIES = 0.5  # what the prior of series without companions weighs …
PRIOR_H = 24.0  # … and in how many hours it puts them, where there never was a story
SHARE_PRIOR = 10.0  # stories that the pooled share of negative ones weighs
NO_MORE = 1e9  # a prior this heavy leaves no say to the data


class Baseline(NamedTuple):
    """By series, in the order given; the last one stands for a series that is not known yet."""

    level: Array  # (S,) negative stories an hour, in a week's mean
    rhythm: Array  # (S, 168) factors by hour of the week, local
    dispersion: Array  # (S, windows): variance = mean + dispersion * mean^2
    share: Array  # (S,) of negative among all stories


def fit(
    negative: Array, stories: Array, live: Array, spared: Array | None, hour_of_week: Array, windows_h: Sequence[float]
) -> Baseline:
    """From counts by hour, oldest first.

    negative, stories: (S, H). live: (H,) false for hours without a feed. spared: (S, H) false for the hours of a
    series' own earlier spikes. windows_h: the lengths for which a dispersion is asked, hours.
    """
    series, hours = negative.shape
    use = np.broadcast_to(live, negative.shape) if spared is None else live & spared
    use = use.astype(np.float32)
    counts = negative.astype(np.float32) * use
    aged = (0.5 ** ((hours - 1 - np.arange(hours)) / HALF_LIFE_H)).astype(np.float32)
    weight = use
    for _ in range(2):  # a second time with the outliers down
        rhythm = _rhythm(counts * weight, weight, hour_of_week, live)
        shape = rhythm[:, hour_of_week]
        weighed = weight * aged
        seen = (counts * weighed).sum(axis=1, dtype=np.float64)
        exposure = (shape * weighed).sum(axis=1, dtype=np.float64)
        prior_shape, prior_h = _prior(seen, exposure)
        level = (prior_shape + seen) / (prior_h + exposure)
        mean = (level[:, None] * shape * use).astype(np.float32)
        spread, _ = _dispersion(counts, mean, use, 1)
        weight = use * _weights(counts, mean, spread)
    squares = (counts * weighed**2).sum(axis=1, dtype=np.float64)
    known = np.divide(seen**2, squares, out=np.zeros_like(seen), where=squares > 0)
    unsure = 1 / (prior_shape + known)
    by_hours = {span: _dispersion(counts, mean, weight, span) for span in {max(1, round(w)) for w in windows_h}}
    pairs = [by_hours[max(1, round(w))] for w in windows_h]
    dispersion = np.stack([own for own, _ in pairs], axis=1) + unsure[:, None]
    all_stories = (stories * weighed).sum(axis=1, dtype=np.float64)
    usual = seen.sum() / max(all_stories.sum(), 1.0)
    share = (seen + SHARE_PRIOR * usual) / (all_stories + SHARE_PRIOR)
    newcomer = np.array([pooled for _, pooled in pairs]) + 1 / prior_shape
    typical = rhythm.mean(axis=0) if series else np.ones(WEEK_H)
    return Baseline(
        np.append(level, prior_shape / prior_h),
        np.vstack([rhythm, typical[None]]),
        np.vstack([dispersion, newcomer[None]]),
        np.append(share, usual),
    )


def joined(parts: Sequence[Baseline]) -> Baseline:
    """Fits of several groups of series as one; what a new series may be is their mean."""
    fields = []
    for name in Baseline._fields:
        values = [getattr(part, name) for part in parts]
        newcomer = np.mean([value[-1] for value in values], axis=0)
        fields.append(np.concatenate([*(value[:-1] for value in values), newcomer[None]]))
    return Baseline(*fields)


def _prior(seen: Array, exposure: Array) -> tuple[float, float]:
    """The gamma prior of the levels: shape, and hours that it weighs."""
    some = exposure > 0
    if not seen[some].sum():
        return PRIOR_STORIES, PRIOR_H
    if some.sum() < 3:
        return PRIOR_STORIES, PRIOR_STORIES * float(exposure[some].sum() / seen[some].sum())
    rates = seen[some] / exposure[some]
    mean = rates.mean()
    between = max(rates.var() - (mean / exposure[some]).mean(), 1e-12)
    shape = float(np.clip(mean**2 / between, 0.2, 10.0))
    return shape, shape / mean


def _rhythm(counts: Array, weight: Array, hour_of_week: Array, live: Array) -> Array:
    """(S, 168) factors of mean 1: flat, then by hour of the day, then of the week; of all series, then of each."""
    series = len(counts)
    flat = np.ones((series, WEEK_H))
    if live.sum() < RHYTHM_FROM_H or not counts.sum():
        return flat
    # In a series' own mean hour a weight counts as much as it sees, so that one loud series does not make the week.
    level = counts.sum(axis=1) / np.maximum(weight.sum(axis=1), 1)
    happened, could = _by_week(counts, hour_of_week), _by_week(weight, hour_of_week) * level[:, None]
    noise = _noise(counts.sum(axis=0), hour_of_week, live)
    common = np.ones(WEEK_H)
    for daily in (True, False):
        common = common * _shrunk(happened.sum(axis=0), could.sum(axis=0) * common, daily, noise)
    common /= common.mean()
    own = np.broadcast_to(common, (series, WEEK_H))
    if series > 1:
        mean = level[:, None] * common[hour_of_week].astype(np.float32) * weight
        noise = max(1.0, float(((counts - mean) ** 2).sum() / max(mean.sum(), 1e-9)))
        for daily in (True, False):
            own = own * _shrunk(happened, could * own, daily, noise)
        own = own / own.mean(axis=1, keepdims=True)
    return own


def _by_week(values: Array, hour_of_week: Array) -> Array:
    """(S, 168) sums by hour of the week."""
    sums = np.zeros((len(values), WEEK_H))
    # Hours follow each other, but for a week's end and the change of the clocks: so they are added in stretches.
    breaks = np.flatnonzero(np.diff(hour_of_week) != 1) + 1
    for since, until in itertools.pairwise([0, *breaks.tolist(), len(hour_of_week)]):
        place = int(hour_of_week[since])
        sums[:, place : place + until - since] += values[:, since:until]
    return sums


def _noise(pooled: Array, hour_of_week: Array, live: Array) -> float:
    """Variance over mean of the pooled hours within their place in the week (the day, when there are few weeks)."""
    groups = hour_of_week if live.sum() >= 2 * WEEK_H else hour_of_week % 24
    sizes = np.bincount(groups, live, WEEK_H)
    means = np.bincount(groups, pooled * live, WEEK_H) / np.maximum(sizes, 1)
    expected = means[groups]
    use = live & (expected > 0)
    free = max(use.sum() - (means > 0).sum(), 1)
    return max(1.0, float(((pooled - expected)[use] ** 2 / expected[use]).sum() / free))


def _shrunk(happened: Array, expected: Array, daily: bool, noise: float) -> Array:
    """Factors happened/expected by hour of the week (of the day), drawn towards 1 as far as they may be chance."""
    seen, usual = happened, expected
    if daily:
        seen, usual = (values.reshape(*values.shape[:-1], 7, 24).sum(axis=-2) for values in (happened, expected))
    real = max(float(((seen - usual) ** 2).sum() - noise * usual.sum()), 0.0) / max(float((usual**2).sum()), 1e-12)
    prior = min(noise / real, NO_MORE) if real > 0 else NO_MORE
    factors = (prior + seen) / (prior + usual)
    return np.concatenate([factors] * 7, axis=-1) if daily else factors


def _blocks(values: Array, hours: int) -> Array:
    """Sums over blocks of hours, counted from the end."""
    series, count = values.shape
    whole = count // hours * hours
    return values[:, count - whole :].reshape(series, -1, hours).sum(axis=2)  # type: ignore[no-any-return]


def _dispersion(counts: Array, mean: Array, weight: Array, hours: int) -> tuple[Array, float]:
    """By series, and pooled: (variance - mean) / mean^2 over blocks; each drawn to the pooled as far as alike."""
    x, m = (counts * weight, mean * weight) if hours == 1 else (_blocks(v * weight, hours) for v in (counts, mean))
    over = ((x - m) ** 2 - m).sum(axis=1, dtype=np.float64)
    base = (m**2).sum(axis=1, dtype=np.float64)
    if not base.sum():
        return np.zeros(len(counts)), 0.0
    pooled = max(float(over.sum() / base.sum()), 0.0)
    some = base > 0
    own = np.divide(over, base, out=np.full(len(counts), pooled), where=some)
    variance = 2 * (m * (1 + pooled * m)) ** 2 + m * (1 + pooled * m)
    chance = np.divide(variance.sum(axis=1, dtype=np.float64), base**2, out=np.full(len(counts), np.inf), where=some)
    precise = np.divide(1.0, chance**2, out=np.zeros_like(chance), where=np.isfinite(chance))
    excess = ((own - pooled) ** 2 - np.where(np.isfinite(chance), chance, 0.0)) * precise
    between = max(float(excess.sum() / max(precise.sum(), 1e-300)), 0.0) if len(counts) > 2 else np.inf
    trust = np.where(np.isfinite(chance), between / (between + chance), 0.0) if np.isfinite(between) else some * 1.0
    return np.maximum(pooled + trust * (own - pooled), 0.0), pooled


def _weights(counts: Array, mean: Array, spread: Array) -> Array:
    """1 for what is usual, less for outliers, by the hour and by the day."""
    weight = _down(counts, mean, spread[:, None])
    days = _blocks(counts, 24), _blocks(mean, 24)
    daily, _ = _dispersion(counts, mean, np.ones_like(counts), 24)
    by_day = np.repeat(_down(*days, daily[:, None]), 24, axis=1)
    rest = counts.shape[1] - by_day.shape[1]
    weight[:, rest:] = np.minimum(weight[:, rest:], by_day)
    return weight


def _down(x: Array, m: Array, spread: Array) -> Array:
    """The weight by the Anscombe residual; only what is above its expectation loses weight."""
    weight = np.ones(x.shape, np.float32)
    above = np.nonzero(x > m)
    high, usual = x[above], np.maximum(m[above], 1e-6)
    scale = usual ** (1 / 6) * np.sqrt(1 + np.broadcast_to(spread, x.shape)[above] * usual)
    residual = 1.5 * (np.cbrt(high) ** 2 - np.cbrt(usual) ** 2) / scale
    weight[above] = (OUTLIER / np.maximum(residual, OUTLIER)) ** 2
    return weight
