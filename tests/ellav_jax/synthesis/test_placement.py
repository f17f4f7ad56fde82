"""Sentences in bulk over a mesh of virtual devices: the same speech as on one device."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.sharding import MeshConfig, make_mesh
from ellav_jax.synthesis.first_layer import Stretch, decode_stretches
from ellav_jax.synthesis.other_layers import Unfilled, fill_batch
from ellav_jax.synthesis.placement import Placement
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.shapes import GarShape
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.vocabulary import Vocabulary

SIZE = TransformerConfig.llama(
    num_layers=2, num_heads=2, width=32, ff_width=48, dropout=0.0, dtype="float32", remat="none"
)
ROOT = Path(__file__).parents[3]
SCRIPT = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)
from tests.ellav_jax.synthesis import test_placement
test_placement.{check}
"""


def _on_two_devices(check):
    """Runs a function of this module in a process of its own: devices are made once, at its beginning."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT.format(check=check)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("sizes", [(2, 1, 1), pytest.param((1, 2, 1), marks=pytest.mark.slow)])
def test_rows_over_two_devices_say_what_they_say_on_one(sizes):
    _on_two_devices(f"check_rows({sizes})")


def test_rows_that_the_mesh_does_not_divide_are_refused():
    _on_two_devices("check_refusal()")


def _model(make):
    definition = ModelDefinition.of(make)
    return TrainedModel(definition, definition.init(jax.random.key(0)))


def _prompt(seed):
    codes = np.random.default_rng(seed).integers(0, 1024, (9, 8)).astype(np.int32)
    return Prompt(np.array([1, 2], np.int32), np.array([4, 5], np.int32), codes)


def check_rows(sizes):
    gar_model = _model(lambda key: Gar(GarConfig(SIZE), Vocabulary(5), key))
    nar_model = _model(lambda key: Nar(NarConfig(SIZE), 5, key))
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[:2])
    stretches = [
        Stretch(_prompt(seed), np.array([0, 3, 4], np.int32), np.ones(3, int), np.full(3, 6), seed) for seed in range(3)
    ]
    found = []
    for placement in (Placement(), Placement(mesh)):
        gar, nar = (placement.model(one) for one in (gar_model, nar_model))
        firsts = decode_stretches(
            gar, LayoutConfig(), 5, stretches, GarShape(24, 4, 24), SamplingConfig(), batch_size=4, placement=placement
        )
        unfilled = [
            Unfilled.behind(stretch.left, np.array([1, 2, 0, 3, 4]), first.durations, first.codes_T)
            for stretch, first in zip(stretches, firsts, strict=True)
        ]
        found.append(fill_batch(nar, unfilled, 4, placement))
        if placement.mesh is not None:
            assert len(jax.tree.leaves(gar.params)[0].sharding.device_set) == 2
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(alone[:, 0], together[:, 0])
        assert np.mean(alone == together) > 0.99  # near ties of the NAR may fall otherwise


def check_refusal():
    placement = Placement(make_mesh(MeshConfig(2, 1, 1), jax.devices()[:2]))
    assert placement.multiple == 2
    with pytest.raises(InputError, match="3 does not divide over 2 devices"):
        placement.rows(np.zeros((3, 4)))
