"""Each position with its own head, against all heads over all positions."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.training.cross_entropy import LossConfig, cross_entropy
from ellav_jax.training.staged_head import staged_sums

pytestmark = pytest.mark.usefixtures("quick_compilation")

STAGES, CLASSES, WIDTH = 3, 7, 6
CONFIG = LossConfig(z_loss=0.01, label_smoothing=0.1)


def _case(rows, length, share_without_loss, used=STAGES):
    rng = np.random.default_rng(rows * length)
    stages = rng.integers(0, used, (rows, length))
    return (
        jnp.asarray(rng.normal(size=(rows, length, WIDTH)), jnp.float32),
        jnp.asarray(rng.normal(size=(STAGES, CLASSES, WIDTH)), jnp.float32),
        jnp.asarray(rng.integers(0, CLASSES, (rows, length)), jnp.int32),
        jnp.asarray(np.where(rng.random((rows, length)) < share_without_loss, STAGES, stages), jnp.int32),
    )


def _dense(x, heads, targets, stages):
    """All heads over all positions, masked."""
    scores = jnp.einsum("btd,scd->bstc", x, heads)
    losses, objectives = cross_entropy(scores, jnp.broadcast_to(targets[:, None], scores.shape[:-1]), CONFIG)
    here = stages[:, None] == jnp.arange(STAGES)[:, None]
    correct = scores.argmax(-1) == targets[:, None]
    columns = (objectives, losses, correct, jnp.ones_like(losses))
    return jnp.stack([jnp.sum(one, (0, 2), where=here, dtype=jnp.float32) for one in columns], -1)


def _with_gradients(sums, x, heads, targets, stages):
    weights = jnp.arange(1.0, STAGES + 1)  # another weight for each stage

    def objective(x, heads):
        table = sums(x, heads, targets, stages)
        return table[:, 0] @ weights, table

    return jax.jit(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))(x, heads)


@pytest.mark.parametrize(
    ("rows", "length", "share_without_loss", "used"),
    [(2, 50, 0.3, 3), (3, 700, 0.1, 3), (1, 300, 0.0, 1), (2, 40, 1.0, 3)],
    ids=["one block", "many blocks", "one stage only", "no loss anywhere"],
)
def test_sums_and_gradients_are_those_of_all_heads_over_all_positions(rows, length, share_without_loss, used):
    case = _case(rows, length, share_without_loss, used)
    (_, table), grads = _with_gradients(lambda *a: staged_sums(*a, CONFIG), *case)
    (_, expected), expected_grads = _with_gradients(_dense, *case)
    np.testing.assert_allclose(table, expected, rtol=1e-5)
    assert table[:, 3].sum() == np.sum(np.asarray(case[3]) < STAGES)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-5 * np.abs(expected_grad).max())
    # Without gradients it goes another way to the same sums.
    np.testing.assert_allclose(jax.jit(lambda *a: staged_sums(*a, CONFIG))(*case), expected, rtol=1e-5)


def test_a_position_without_loss_has_no_part_in_sums_and_gradients():
    x, heads, targets, stages = _case(2, 50, 0.3)
    silent = np.asarray(stages) == STAGES
    other = jnp.where(silent[..., None], 99.0, x)
    (value, table), (x_grad, heads_grad) = _with_gradients(
        lambda *a: staged_sums(*a, CONFIG), other, heads, targets, stages
    )
    (expected, expected_table), (_, expected_grad) = _with_gradients(
        lambda *a: staged_sums(*a, CONFIG), x, heads, targets, stages
    )
    assert value == expected
    np.testing.assert_array_equal(table, expected_table)
    np.testing.assert_array_equal(heads_grad, expected_grad)
    assert silent.any()
    assert not x_grad[silent].any()


ON_A_MESH = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from ellav_jax.sharding import MeshConfig, ShardingRules, make_mesh, on_mesh
from ellav_jax.training.staged_head import staged_sums
from tests.ellav_jax.training.test_staged_head import CONFIG, _case, _with_gradients

case = _case(8, 40, 0.3)
(_, expected), expected_grads = _with_gradients(lambda *a: staged_sums(*a, CONFIG), *case)
with on_mesh(make_mesh(MeshConfig(2, 2, 2)), ShardingRules()):
    (_, table), grads = _with_gradients(lambda *a: staged_sums(*a, CONFIG), *case)
assert len(table.sharding.device_set) == 8
for found, wanted in zip((table, *grads), (expected, *expected_grads)):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
"""


def test_eight_devices_that_each_have_their_own_rows_give_the_same():
    root = Path(__file__).parents[3]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", ON_A_MESH], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
