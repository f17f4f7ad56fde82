"""Recordings as training data: segments drawn from weighted sources, each segment a function of seed and step."""

from collections.abc import Sequence

import numpy as np
import soxr

from ellav_jax.codec.config import SAMPLE_RATE
from ellav_jax.codec.training.config import SegmentConfig
from ellav_jax.errors import InputError

# Below it (-52 dB) a segment is a pause, and not brought to speech level.
_QUIET = 2.5e-3
_TRIES = 1000


class Segments:
    """Batches of segments out of `sources` (int16 [S] at 24 kHz, recordings one behind the other)."""

    def __init__(self, config: SegmentConfig, sources: Sequence[np.ndarray], weights: Sequence[float], seed: int):
        """weights: how often each source is drawn from, in proportion. Raises InputError for a source that is shorter than a
        segment."""
        self._config, self._sources, self._seed = config, sources, seed
        self._shares = np.asarray(weights, np.float64) / np.sum(weights)
        for number, source in enumerate(sources):
            if len(source) <= config.samples * config.faster + 1:
                raise InputError(
                    f"source {number + 1} holds {len(source) / SAMPLE_RATE:.1f} s of audio; expected more than "
                    f"{config.seconds * config.faster:.1f} s, a segment's length"
                )

    def batch(self, step: int) -> np.ndarray:
        """The segments of a step, float32 [batch, S] in [-1, 1]: the same whenever it is asked for."""
        rng = np.random.default_rng((self._seed, step))
        return np.stack([self._segment(rng) for _ in range(self._config.batch)])

    def _segment(self, rng: np.random.Generator) -> np.ndarray:
        config = self._config
        keep_level = rng.random() < config.unscaled
        for _ in range(_TRIES):
            segment_S = self._drawn(rng)
            level = float(np.sqrt(np.mean(np.square(segment_S))))
            if keep_level or level > _QUIET:
                break
        else:
            raise InputError(f"the recordings are pauses: {_TRIES} segments drawn in a row are softer than {_QUIET:g}")
        if not keep_level:
            segment_S *= 10 ** (rng.uniform(*config.loudness) / 20) / level
        return np.clip(segment_S * rng.choice([-1.0, 1.0]), -1, 1).astype(np.float32)

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        samples, faster = self._config.samples, self._config.faster
        source_S = self._sources[rng.choice(len(self._sources), p=self._shares)]
        speed = faster ** rng.uniform(-1, 1) if rng.random() < 0.5 else 1.0
        length = round(samples * speed)
        start = rng.integers(len(source_S) - length)
        segment_S = source_S[start : start + length].astype(np.float32) / 2**15
        if speed == 1:
            return segment_S
        stretched_S = soxr.resample(segment_S, speed, 1.0, quality="MQ")[:samples]
        return np.pad(stretched_S, (0, samples - len(stretched_S)))  # rounding may leave it a sample short
