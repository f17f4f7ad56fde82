"""Sample-rate conversion."""

import numpy as np


def resample(waveform_S: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """float32 [S] at `source_rate` Hz → float32 at `target_rate` Hz, by soxr at its high quality."""
    if source_rate == target_rate:
        return waveform_S
    import soxr  # a compiled library that only some callers need

    return soxr.resample(waveform_S, source_rate, target_rate).astype(np.float32)
