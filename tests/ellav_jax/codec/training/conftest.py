"""A training run small enough for tests: the bundled codec, short segments, a thin discriminator."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ellav_jax.codec.training.clips import Segments
from ellav_jax.codec.training.config import (
    AdversaryConfig,
    CodecTrainingConfig,
    DiscriminatorConfig,
    QuantizerConfig,
    SegmentConfig,
)
from ellav_jax.codec.training.trainer import CodecTrainer
from ellav_jax.codec.weights import CodecWeights, read_weights

SMALL = CodecTrainingConfig(
    segments=SegmentConfig(seconds=0.2, batch=2),
    quantizer=QuantizerConfig(fewer_codebooks=0.5),
    adversary=AdversaryConfig(discriminator=DiscriminatorConfig(windows=(2048, 256), filters=4)),
    warmup=1,
    log_every=1,
    adversary_from=10**9,
)


@pytest.fixture(scope="session")
def bundled_weights() -> CodecWeights:
    return read_weights("bundled")


@pytest.fixture(scope="session")
def recordings(speech: list[np.ndarray]) -> np.ndarray:
    """A few seconds of speech, int16 [S] at 24 kHz."""
    return np.round(np.concatenate(speech) * 32767).astype(np.int16)


@pytest.fixture
def small_run(bundled_weights: CodecWeights, recordings: np.ndarray) -> Callable[..., CodecTrainer]:
    """`small_run(folder, told, start=weights, field=value, …)`: a run of `SMALL` with other values in these fields;
    `told` gets its log lines."""

    def make(
        out: Path, told: list[dict[str, float]], start: CodecWeights = bundled_weights, **fields: object
    ) -> CodecTrainer:
        config = dataclasses.replace(SMALL, **fields)
        out.mkdir(exist_ok=True)
        segments = Segments(config.segments, [recordings], [1.0], config.seed)
        held_out = [recordings[:20_000].astype(np.float32) / 2**15]
        return CodecTrainer(config, segments, out, lambda: start, held_out, told.append)

    return make
