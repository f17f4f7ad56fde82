"""The training step: it learns, it divides once, and it is the same on every mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.models.transformer import product
from ellav_jax.sharding import MeshConfig, ShardingRules, global_batch, make_mesh
from ellav_jax.training.losses import gar_sums
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.step import make_steps

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).parents[3]


def test_one_batch_is_learnt_by_heart(tiny_steps, random_rows):
    steps = tiny_steps.steps
    batch = global_batch(random_rows(0), tiny_steps.rules.of_batch(tiny_steps.mesh, 2))
    state, losses = steps.init(jax.random.key(0)), []
    for _ in range(100):
        state, metrics = steps.train(state, batch, np.uint32(1))
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(1026), abs=0.8)  # a fresh model knows nothing
    assert losses[-1] < 0.05
    assert metrics["accuracy"] == 1
    assert int(state["step"]) == 100


def test_evaluation_gives_sums_without_dropout_and_the_step_their_quotient(tiny_steps, random_rows):
    steps, batch = tiny_steps.steps, random_rows(3)
    state = steps.init(jax.random.key(0))
    first, again = (steps.evaluate(state, batch) for _ in range(2))
    assert float(first["loss"]) == float(again["loss"])
    assert float(first["tokens"]) == batch["loss_mask"].sum()
    by_hand = jax.jit(lambda params, seed: gar_sums(tiny_steps.definition.merge(params), batch, seed))(
        state["params"], np.uint32(1)
    )
    _, metrics = steps.train(state, batch, np.uint32(1))
    assert float(metrics["loss"]) == pytest.approx(float(by_hand["loss"] / by_hand["tokens"]), rel=1e-5)
    assert float(metrics["loss"]) != pytest.approx(float(first["loss"] / first["tokens"]), rel=1e-5)


def test_a_batch_without_a_token_changes_nothing_to_nan(tiny_steps, random_rows):
    steps, batch = tiny_steps.steps, random_rows(0)
    batch["loss_mask"] = np.zeros_like(batch["loss_mask"])
    state, metrics = steps.train(steps.init(jax.random.key(0)), batch, np.uint32(1))
    assert float(metrics["loss"]) == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


MESHES = {"one device": (1, 1, 1), "data": (8, 1, 1), "fsdp": (1, 8, 1), "all three": (2, 2, 2)}

SCRIPT = """
import json, sys
import jax
import jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)
import numpy as np
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.sharding import MeshConfig, ShardingRules, global_batch, make_mesh
from ellav_jax.training.losses import gar_sums
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.step import make_steps
from ellav_jax.vocabulary import Vocabulary

config = TransformerConfig.paper(
    num_layers=2, num_heads=2, width=32, ff_width=48, dropout=0.1, dtype="float32", remat="none"
)
definition = ModelDefinition.of(lambda key: Gar(GarConfig(config), Vocabulary(6), key))
rng = np.random.default_rng(0)
at = np.broadcast_to(np.arange(12), (8, 12))
real = at < np.arange(5, 13)[:, None]
batch = {
    "inputs": rng.integers(0, 1026, (8, 12)).astype(np.int32),
    "targets": rng.integers(0, 1026, (8, 12)).astype(np.int32),
    "loss_mask": real & (at > 3),
    "segment_ids": real.astype(np.int32),
    "positions": at.astype(np.int32),
    "dropout_keys": np.repeat(np.arange(8, dtype=np.uint32)[:, None], 12, 1),
}
optimizer = OptimizerConfig(peak_lr=1e-2, warmup_steps=1)
found = {}
for name, sizes in json.loads(sys.argv[1]).items():
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    rules = ShardingRules()
    steps = make_steps(definition, gar_sums, optimizer, mesh, rules, steps=10)
    state, losses = steps.init(jax.random.key(0)), []
    for _ in range(4):
        state, metrics = steps.train(state, global_batch(batch, rules.of_batch(mesh, 8)), np.uint32(1))
        losses.append(float(metrics["loss"]))
    sums = steps.evaluate(state, global_batch(batch, rules.of_batch(mesh, 8)))
    kernel = state["params"]["transformer"]["blocks"]["up"]["kernel"]
    moment = state["optimizer"][1][0].mu["transformer"]["blocks"]["up"]["kernel"]
    found[name] = {
        "losses": losses, "held_out": float(sums["loss"]), "tokens": float(sums["tokens"]),
        "norm": float(metrics["grad_norm"]), "spec": str(kernel.sharding.spec), "moment": str(moment.sharding.spec),
        "piece": list(kernel.addressable_shards[0].data.shape), "kernel": float(abs(np.asarray(kernel)).sum()),
    }
print(json.dumps(found))
"""


def _train_on(*names):
    """A model trained for 4 steps on each mesh: what the script prints, by the mesh's name."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, json.dumps({name: MESHES[name] for name in names})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _assert_same_training(one, many):
    assert one["losses"][-1] < one["losses"][1] - 0.1  # it does learn
    for figure in ("losses", "held_out", "norm", "kernel"):
        np.testing.assert_allclose(many[figure], one[figure], rtol=1e-5)
    assert many["tokens"] == one["tokens"]
    assert many["spec"] == many["moment"]


@pytest.mark.slow
def test_eight_devices_with_parameters_in_pieces_train_as_one_does():
    found = _train_on("one device", "all three")
    _assert_same_training(found["one device"], found["all three"])
    assert found["one device"]["piece"] == [2, 32, 48]
    assert found["all three"]["piece"] == [2, 16, 24]


@pytest.mark.slow
def test_meshes_of_one_axis_train_as_one_device_does():
    found = _train_on("one device", "data", "fsdp")
    for name, piece in (("data", [2, 32, 48]), ("fsdp", [2, 4, 48])):
        _assert_same_training(found["one device"], found[name])
        assert found[name]["piece"] == piece


def test_a_model_that_does_not_fit_the_mesh_is_refused_before_anything_runs(tiny_steps):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(
        InputError, match=r"parameter transformer\.blocks\.\w+\.kernel: two dimensions claim one mesh axis"
    ):
        make_steps(tiny_steps.definition, gar_sums, OptimizerConfig(), mesh, ShardingRules(mlp="fsdp"), steps=10)


def _one_step(tiny_steps, batch, accumulate=1, **choices):
    config = OptimizerConfig(peak_lr=1e-2, warmup_steps=1, **choices)
    made = make_steps(
        tiny_steps.definition, gar_sums, config, tiny_steps.mesh, tiny_steps.rules, steps=10, accumulate=accumulate
    )
    state = made.init(jax.random.key(0))
    for _ in range(2):
        state, metrics = made.train(state, batch, np.uint32(1))
    return made, state, metrics


def test_a_batch_worked_off_in_parts_gives_the_step_of_the_whole_whatever_its_parts_hold(tiny_steps, random_rows):
    batch = random_rows(5, rows=4)
    batch["loss_mask"][1] = batch["loss_mask"][3] = False  # parts of unequal token counts, one almost without any
    batch["loss_mask"][3, 4] = True
    _, whole, metrics = _one_step(tiny_steps, batch)
    for accumulate in (2, 4):
        _, parts, found = _one_step(tiny_steps, batch, accumulate)
        for name in metrics:
            assert float(found[name]) == pytest.approx(float(metrics[name]), rel=1e-5)
        for a, b in zip(jax.tree.leaves(whole["params"]), jax.tree.leaves(parts["params"]), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_evaluation_uses_the_average_where_there_is_one(tiny_steps, random_rows):
    batch = random_rows(5)
    steps, state, _ = _one_step(tiny_steps, batch, ema_decay=0.5)
    plain = tiny_steps.steps.evaluate({name: state[name] for name in ("params", "optimizer", "step")}, batch)
    of_average = tiny_steps.steps.evaluate(state | {"params": state["ema"]}, batch)
    assert float(steps.evaluate(state, batch)["loss"]) == float(of_average["loss"]) != float(plain["loss"])


def test_kernels_gradients_are_summed_in_float32_under_bfloat16():
    """A sum of 2¹² + 1 terms of 1 is lost in bfloat16, which ends at 2⁸ for steps of 1."""
    x = jnp.ones((4097, 2), jnp.bfloat16)
    kernel_grad = jax.grad(lambda kernel: product(x, kernel).astype(jnp.float32).sum())(jnp.ones((2, 3)))
    assert kernel_grad.dtype == jnp.float32
    np.testing.assert_array_equal(kernel_grad, 4097)


def test_a_run_of_equal_shapes_compiles_its_step_once(tiny_steps, random_rows):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    steps, sharding = tiny_steps.steps, tiny_steps.rules.of_batch(tiny_steps.mesh, 2)
    state = steps.init(jax.random.key(0))
    state, _ = steps.train(state, global_batch(random_rows(0), sharding), np.uint32(1))
    before = len(compiled)
    for index in range(1, 4):
        state, _ = steps.train(state, global_batch(random_rows(index), sharding), np.uint32(1))
    assert len(compiled) == before
    steps.train(state, global_batch(random_rows(0, rows=4), sharding), np.uint32(1))
    assert len(compiled) > before  # the listener does hear
