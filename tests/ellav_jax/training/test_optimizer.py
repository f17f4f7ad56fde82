"""Learning-rate schedules in numbers, and what weight decay reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.training.optimizer import OptimizerConfig, averaged, learning_rate, make_optimizer


def test_inverse_sqrt_rises_to_the_peak_and_falls_with_the_root_of_the_step():
    rate = learning_rate(OptimizerConfig(peak_lr=0.4, warmup_steps=100), steps=10_000)
    for step, expected in {0: 0.0, 1: 0.004, 50: 0.2, 100: 0.4, 400: 0.2, 10_000: 0.04}.items():
        assert float(rate(step)) == pytest.approx(expected, rel=1e-6)


def test_cosine_rises_to_the_peak_and_falls_to_a_hundredth():
    rate = learning_rate(OptimizerConfig(peak_lr=0.4, warmup_steps=100, schedule="cosine"), steps=1100)
    middle = 0.004 + 0.5 * (0.4 - 0.004)
    for step, expected in {0: 0.0, 50: 0.2, 100: 0.4, 600: middle, 1100: 0.004, 2000: 0.004}.items():
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "cosine"])
def test_a_run_without_or_shorter_than_its_warm_up_has_finite_rates(schedule):
    for warmup, steps in ((0, 5), (100, 5)):
        rate = learning_rate(OptimizerConfig(warmup_steps=warmup, schedule=schedule), steps)
        assert np.all(np.isfinite([float(rate(step)) for step in range(7)]))


AXES = {
    "embedding": ("vocab", "embed"),
    "norm": {"scale": (None,)},
    "blocks": {
        "kernel": ("layers", "embed", "mlp"),
        "bias": ("layers", "mlp"),
        "norm": ("layers", None),
    },
}


def test_weight_decay_reaches_matrices_and_embeddings_and_neither_norms_nor_biases():
    params = jax.tree.map(lambda axes: jnp.ones((2,) * len(axes)), AXES, is_leaf=lambda x: isinstance(x, tuple))
    # The second step has the peak's rate; a gradient of 0 leaves the decay alone.
    optimizer = make_optimizer(OptimizerConfig(peak_lr=0.1, warmup_steps=1, weight_decay=0.5), 10, AXES)
    update = jax.jit(optimizer.update)
    state, zeros = jax.jit(optimizer.init)(params), jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):
        updates, state = update(zeros, state, params)
    moved = {jax.tree_util.keystr(p, simple=True): float(u.ravel()[0]) for p, u in jax.tree.leaves_with_path(updates)}
    assert moved["embedding"] == moved["blockskernel"] == pytest.approx(-0.1 * 0.5)
    assert moved["normscale"] == moved["blocksbias"] == moved["blocksnorm"] == 0


def test_a_step_is_adamws_with_the_gradient_clipped():
    config = OptimizerConfig(peak_lr=0.1, warmup_steps=1, beta1=0.8, beta2=0.9, weight_decay=0.01, clip_norm=1.0)
    optimizer = make_optimizer(config, 10, {"w": ("embed", "mlp")})
    params = {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]])}
    state, mean, square, w = optimizer.init(params), 0.0, 0.0, np.array(params["w"], np.float64)
    for step, scale in enumerate([10.0, 0.1, 3.0], start=1):
        gradient = scale * np.array([[1.0, 2.0], [-1.0, 0.5]])
        updates, state = jax.jit(optimizer.update)({"w": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        clipped = gradient / max(1.0, np.linalg.norm(gradient))
        mean, square = 0.8 * mean + 0.2 * clipped, 0.9 * square + 0.1 * clipped**2
        rate = 0.1 * min((step - 1) / 1, 1 / np.sqrt(max(step - 1, 1)))
        direction = (mean / (1 - 0.8**step)) / (np.sqrt(square / (1 - 0.9**step)) + 1e-8)
        w -= rate * (direction + 0.01 * w)
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


def test_wsd_rises_stays_and_falls_to_nothing():
    rate = learning_rate(OptimizerConfig(peak_lr=0.4, warmup_steps=100, schedule="wsd", decay_share=0.2), steps=1000)
    for step, expected in {0: 0.0, 50: 0.2, 100: 0.4, 500: 0.4, 800: 0.4, 900: 0.2, 1000: 0.0, 1200: 0.0}.items():
        assert float(rate(step)) == pytest.approx(expected, rel=1e-6)


def _orthogonalised(matrix):
    """Newton and Schulz's iteration as Jordan tuned it: five steps on the matrix over its Frobenius norm."""
    x = matrix / np.linalg.norm(matrix)
    if x.shape[0] > x.shape[1]:
        return _orthogonalised(matrix.T).T
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x


def test_muon_turns_each_layers_matrix_and_leaves_the_rest_to_adamw():
    axes = {
        "kernel": ("layers", "embed", "mlp"),
        "bias": ("layers", "mlp"),
        "embedding": ("vocab", "embed"),
        "heads": (None, "vocab", "embed"),
    }
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 4, 6), "bias": (3, 6), "embedding": (5, 4), "heads": (2, 5, 4)}
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    grads = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    config = OptimizerConfig(name="muon", peak_lr=0.1, warmup_steps=1, weight_decay=0.5, clip_norm=1e9)
    found, adamw = (make_optimizer(c, 10, axes) for c in (config, OptimizerConfig(**vars(config) | {"name": "adamw"})))
    states = [optimizer.init(params) for optimizer in (found, adamw)]
    for _ in range(2):  # the second step has the peak's rate
        (updates, state), (plain, plain_state) = (
            jax.jit(optimizer.update)(grads, old, params) for optimizer, old in zip((found, adamw), states, strict=True)
        )
        states = [state, plain_state]
    for name in ("bias", "embedding", "heads"):
        np.testing.assert_allclose(updates[name], plain[name], rtol=1e-5)
    for layer in range(3):
        kernel, gradient = np.asarray(params["kernel"][layer]), np.asarray(grads["kernel"][layer], np.float64)
        expected = -0.1 * (0.2 * np.sqrt(6) * _orthogonalised(gradient) + 0.5 * kernel)
        np.testing.assert_allclose(updates["kernel"][layer], expected, rtol=1e-3, atol=1e-4)


def test_the_average_begins_as_the_parameters_mean_and_then_forgets_at_its_decay():
    values = np.random.default_rng(0).normal(size=400)
    average = expected = 0.0
    for step, value in enumerate(values):
        average = averaged({"w": average}, {"w": value}, jnp.int32(step), 0.95)["w"]
        decay = min(0.95, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"ema_decay": 1.0}, {"decay_share": 0.0}])
def test_a_choice_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)
