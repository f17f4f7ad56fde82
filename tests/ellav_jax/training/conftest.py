"""Steps of a small GAR with dropout, compiled once, and rows of random tokens for them."""

from collections.abc import Callable
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.sharding import MeshConfig, ShardingRules, make_mesh
from ellav_jax.training.losses import gar_sums
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.step import make_steps
from ellav_jax.vocabulary import NUM_OUTPUTS, Vocabulary


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., dict[str, np.ndarray]]:
    """`random_rows(index, rows=2)`: a batch of rows of 16, a function of the index; token counts differ row by row."""

    def make(index: int, rows: int = 2) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(index)
        at = np.broadcast_to(np.arange(16), (rows, 16))
        real = at < rng.integers(6, 17, (rows, 1))
        return {
            "inputs": rng.integers(0, NUM_OUTPUTS, (rows, 16)).astype(np.int32),
            "targets": rng.integers(0, NUM_OUTPUTS, (rows, 16)).astype(np.int32),
            "loss_mask": real & (at > 2),
            "segment_ids": real.astype(np.int32),
            "positions": at.astype(np.int32) * real,
            "dropout_keys": np.where(real, rng.integers(0, 1 << 32, (rows, 1)), 0).astype(np.uint32),
        }

    return make


@pytest.fixture(scope="session")
def tiny_steps(tiny: Callable) -> SimpleNamespace:
    """`steps`, and the `mesh`, `rules`, `definition` that they were made of."""
    definition = ModelDefinition.of(lambda key: Gar(GarConfig(tiny("llama", dropout=0.1)), Vocabulary(5), key))
    mesh, rules = make_mesh(MeshConfig(), jax.devices()[:1]), ShardingRules()
    steps = make_steps(definition, gar_sums, OptimizerConfig(peak_lr=1e-2, warmup_steps=2), mesh, rules, steps=100)
    return SimpleNamespace(steps=steps, mesh=mesh, rules=rules, definition=definition)
