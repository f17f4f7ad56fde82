"""Sample-rate conversion."""

import numpy as np
import soxr


def resample(waveform_S: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """float32 [S] at `source_rate` Hz → float32 [S · target_rate / source_rate, rounded] at `target_rate` Hz (soxr)."""
    if source_rate == target_rate:
        return waveform_S
    return soxr.resample(waveform_S, source_rate, target_rate).astype(np.float32, copy=False)
