"""Durations at another speed."""

import numpy as np


def at_speed(
    durations_N: np.ndarray, speed: float, floors_N: np.ndarray, caps_N: np.ndarray, fixed_N: np.ndarray
) -> np.ndarray:
    """Durations [N] divided by `speed`, as int32 within floors and caps; where fixed_N, as they are.

    What rounding takes from one phone the next one gets, so that the whole is off by less than a frame unless floors and
    caps say otherwise.
    """
    scaled_N = np.array(durations_N, np.int32)
    owed = 0.0
    for index in np.flatnonzero(~fixed_N):
        wanted = durations_N[index] / speed + owed
        scaled_N[index] = np.clip(round(wanted), floors_N[index], caps_N[index])
        # Where a floor or cap bites that is no rounding, and the neighbours don't make up for it.
        owed = wanted - scaled_N[index] if scaled_N[index] == round(wanted) else 0.0
    return scaled_N
