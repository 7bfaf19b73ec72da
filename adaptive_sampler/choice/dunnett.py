"""Several arms against one baseline: Dunnett's one-sided test, whose variance is pooled over the arms, and its power.

Arm i has the statistic T_i = (mean_i − mean_0) / √(2 s² / n), with s² an estimate of a single run's variance that has `df`
degrees of freedom. Under the hypothesis that no arm differs, the T_i are a multivariate t with correlations ½ (Dunnett 1955,
A multiple comparison procedure for comparing several treatments with a control), so that two integrals give the distribution
of the largest: over the baseline's mean, and over s.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

_SPREAD = 9.0  # standard deviations on either side of a mean that an integral covers
_tail = np.vectorize(math.erfc, otypes=[np.float64])


def p_value(t: float, arms: int, df: int) -> float:
    """The probability that the largest of `arms` statistics is `t` or more although no arm differs from the baseline."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    mean, of_mean = _normal()
    scale, of_scale = _scales(df)
    below = _below(math.sqrt(2) * t * scale[:, None] + mean) ** arms
    return float(min(max(1 - of_scale @ below @ of_mean, 0.0), 1.0))


@lru_cache(maxsize=256)
def critical(level: float, arms: int, df: int) -> float:
    """The statistic from which on the p value is `level` or less."""
    return _least(lambda t: p_value(t, arms, df) > level)


@lru_cache(maxsize=256)
def power(gain: float, level: float, arms: int, seeds: int) -> float:
    """The probability that one arm which is better by `gain` standard deviations of a single run is found to be.

    Found by Dunnett's test and by the paired t-test, that is. Of the pooled variance, the share 1 / arms is that of the arm's
    differences to the baseline, and the rest is independent of it.
    """
    df = seeds - 1
    own, of_own = _scales(df)
    rest, of_rest = _scales((arms - 1) * df) if arms > 1 else (np.zeros(1), np.ones(1))
    pooled = np.sqrt((own[:, None] ** 2 + (arms - 1) * rest**2) / arms)
    least = np.maximum(critical(level, arms, arms * df) * pooled, critical(level, 1, df) * own[:, None])
    return float(of_own @ _below(gain * math.sqrt(seeds / 2) - least) @ of_rest)


@lru_cache(maxsize=256)
def detectable(chance: float, level: float, arms: int, seeds: int) -> float:
    """The gain, in standard deviations of a single run, that is found with the probability `chance`."""
    return _least(lambda gain: power(gain, level, arms, seeds) < chance)


def seeds_for(gain: float, chance: float, level: float, arms: int) -> int:
    """The fewest seeds, 2 or more, by which a gain is found with the probability `chance`."""
    seeds = 2
    while power(gain, level, arms, seeds) < chance:
        seeds += 1
    return seeds


def _least(too_little: Callable[[float], bool]) -> float:
    """The least number above 0 that is not too little, as no larger one is."""
    low, high = 0.0, 1.0
    while too_little(high):
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if too_little(middle) else (low, middle)
    return high


def _below(x: np.ndarray) -> np.ndarray:
    """The distribution function of a standard normal variable."""
    return np.asarray(_tail(-x / math.sqrt(2))) / 2


@lru_cache(maxsize=1)
def _normal() -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) of an integral over a standard normal variable."""
    return _weighed(-_SPREAD, _SPREAD, 48, lambda x: -(x**2) / 2)


@lru_cache(maxsize=64)
def _scales(df: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) of an integral over s / σ, whose square times `df` has a chi-squared distribution."""
    around = _SPREAD / math.sqrt(df)
    return _weighed(max(0.0, 1 - around), 1 + around, 96, lambda s: (df - 1) * np.log(s) - df * (s**2 - 1) / 2)


def _weighed(
    low: float, high: float, points: int, log_density: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    x, weights = np.polynomial.legendre.leggauss(points)
    x = low + (x + 1) * (high - low) / 2
    weights = weights * np.exp(log_density(x))
    return x, weights / weights.sum()
