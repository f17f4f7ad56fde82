"""Confidence intervals by bootstrap over utterances."""

import dataclasses

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value and the percentile interval [low, high] of `LEVEL` in which it lies; `utterances` it was made of."""

    value: float
    low: float
    high: float
    utterances: int


def bootstrap_ratio(numerator_U: np.ndarray, denominator_U: np.ndarray, seed: int = 0) -> Estimate | None:
    """Σ numerator / Σ denominator over utterances, both [U], with its interval from `RESAMPLES` resamples.

    A mean over utterances has ones as denominators; a word error rate has errors over words, so that long utterances
    weigh more, as in the rate over a corpus. Utterances are drawn by `seed` and U alone: rows of as many utterances
    are resampled alike. Resamples whose denominators sum to 0 are left out. None without utterances or where the
    denominators sum to 0. Percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
    """
    count = len(numerator_U)
    total = float(np.sum(denominator_U))
    if count == 0 or total == 0:
        return None
    draws_RxU = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    above_R, below_R = draws_RxU @ np.asarray(numerator_U, float), draws_RxU @ np.asarray(denominator_U, float)
    values = above_R[below_R > 0] / below_R[below_R > 0]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.sum(numerator_U)) / total, float(low), float(high), count)
