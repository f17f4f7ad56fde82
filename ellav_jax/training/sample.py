"""A sample spoken in the course of training, for the writers of metrics."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What a model in training said: waveform float32 [S] in -1 … 1 at `sample_rate` Hz, and a picture of it, uint8 RGB."""

    name: str
    waveform_S: np.ndarray
    sample_rate: int
    picture_HxWx3: np.ndarray
