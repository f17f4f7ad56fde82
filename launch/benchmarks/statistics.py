"""What repetitions tell: a median, its spread, and how surely two medians differ.

Repetitions come in runs, each of them a process of its own: [K, N], N repetitions in each of K runs. Repetitions of one
process share its memory layout and its moment of the machine, so runs are drawn first, and repetitions within them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

Runs = Sequence[Sequence[float]]
"""Values [K, N]: N repetitions in each of K runs."""

RESAMPLES = 4000
LEVEL = 0.95
ENOUGH = 5
"""Repetitions that a verdict wants. Of as many on both sides, drawn from one normal distribution, bootstrapped medians find
a difference in 2 to 4 % of trials; of four in 6 %."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value and the percentile interval [low, high] of `LEVEL` in which it lies."""

    value: float
    low: float
    high: float


def median(runs: Runs) -> float:
    """Median of the runs' medians."""
    return float(np.median([np.median(one) for one in runs]))


def spread(runs: Runs) -> float:
    """Distance between the quartiles of all repetitions, as a share of the median."""
    low, high = np.quantile(np.concatenate([np.asarray(one, float) for one in runs]), [0.25, 0.75])
    return float(high - low) / median(runs)


def median_interval(runs: Runs, seed: int = 0) -> Interval:
    """The median with its bootstrap interval."""
    return _interval(median(runs), _resampled_medians(runs, np.random.default_rng(seed)))


def ratio_interval(above: Runs, below: Runs, seed: int = 0) -> Interval:
    """Ratio of two medians that were measured apart, with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    ratios = _resampled_medians(above, rng) / _resampled_medians(below, rng)
    return _interval(median(above) / median(below), ratios)


def _interval(value: float, values_R: np.ndarray) -> Interval:
    """Percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13."""
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def _resampled_medians(runs: Runs, rng: np.random.Generator) -> np.ndarray:
    values_KxN = np.asarray(runs, float)
    number, repetitions = values_KxN.shape
    runs_RxK = rng.integers(number, size=(RESAMPLES, number))
    places_RxKxN = rng.integers(repetitions, size=(RESAMPLES, number, repetitions))
    return np.median(np.median(values_KxN[runs_RxK[..., None], places_RxKxN], axis=-1), axis=-1)
