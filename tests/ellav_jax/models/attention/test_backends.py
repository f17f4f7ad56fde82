"""Every backend against one dense reference in float64; what must not reach a position; and which backend runs where.

The kernels of TPUs and GPUs are interpreted here. That they are lowered for their platforms is tested as well, that they
run there is not.
"""

import contextlib
import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from ellav_jax.errors import InputError
from ellav_jax.models.attention import BACKENDS, RESIDUALS, attend, choose_backend
from ellav_jax.models.attention.kernels import interpreted_kernels, traced_platform
from ellav_jax.sharding import MESH_AXES

SERVING = ("xla", "segments", "pallas_tpu", "splash", "pallas_gpu")
every_backend = pytest.mark.parametrize("backend", SERVING)
both_ways = pytest.mark.parametrize("causal", [True, False])

LENGTH = 256  # two blocks of each kernel
ROWS = {
    # Lengths of a row's segments: cut inside blocks, on their edges, down to a single position, with and without padding.
    "inside blocks": (100, 90, 41),
    "on edges": (128, 1, 127),
}


def _segment_ids():
    ids = np.zeros((len(ROWS), LENGTH), np.int32)
    for row, lengths in enumerate(ROWS.values()):
        ids[row, : sum(lengths)] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return ids


def _inputs(seed=0, width=16):
    """Queries, keys, values and the gradient of the output, float32."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(len(ROWS), LENGTH, 2, width)).astype(np.float32) for _ in range(4)]


@functools.cache
def _jitted(backend, causal):
    def values_and_gradients(q, k, v, d_out, segment_ids):
        with interpreted_kernels():
            out, pull = jax.vjp(lambda *qkv: attend(*qkv, segment_ids, causal=causal, backend=backend), q, k, v)
            return out, *pull(d_out)

    return jax.jit(values_and_gradients)


def _run(backend, causal, arrays, segment_ids):
    """Output and gradients by queries, keys, values."""
    return [np.asarray(x) for x in _jitted(backend, causal)(*arrays, segment_ids)]


def _dense(q, k, v, d_out, segment_ids, causal):
    """Softmax over all pairs, and its gradients written out, in float64."""
    q, k, v, d_out = (np.swapaxes(np.asarray(x, np.float64), 1, 2) for x in (q, k, v, d_out))
    seen = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    if causal:
        seen = seen & np.tri(seen.shape[-1], dtype=bool)
    scores = np.where(seen, q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    d_weights = d_out @ v.swapaxes(2, 3)
    d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
    found = weights @ v, d_scores @ k, d_scores.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ d_out
    return [x.swapaxes(1, 2) for x in found]


@every_backend
@both_ways
def test_values_and_gradients_are_those_of_a_dense_softmax(backend, causal):
    ids = _segment_ids()
    real = (ids > 0)[..., None, None]
    q, k, v, d_out = _inputs()
    d_out = d_out * real  # nothing is asked of padding
    found = _run(backend, causal, (q, k, v, d_out), ids)
    for array, exact in zip(found, _dense(q, k, v, d_out, ids, causal), strict=True):
        assert array.dtype == np.float32
        assert np.all(np.isfinite(array))
        np.testing.assert_allclose(array * real, exact * real, rtol=0, atol=5e-6)
    assert not np.any(np.concatenate(found[1:])[np.tile(ids, (3, 1)) == 0])


@every_backend
def test_bfloat16_is_rounded_and_no_more(backend):
    ids = _segment_ids()
    real = (ids > 0)[..., None, None]
    arrays = [jnp.asarray(x * real, jnp.bfloat16) for x in _inputs()]
    found = _run(backend, True, arrays, ids)
    for array, exact in zip(found, _dense(*arrays, ids, True), strict=True):
        assert array.dtype == jnp.bfloat16
        # 8 bits: weights, their gradients and the result are rounded; scores are not.
        error = np.abs(array.astype(np.float64) - exact) * real
        assert error.max() < 2**-6 * np.abs(exact * real).max()


@every_backend
@both_ways
def test_nothing_leaks_between_segments(backend, causal):
    ids = _segment_ids()
    arrays, others = _inputs(), _inputs(seed=1)
    arrays[3] *= (ids == 2)[..., None, None]  # only the second segment's output is asked for
    before = _run(backend, causal, arrays, ids)
    elsewhere = (ids != 2)[..., None, None]
    changed = [np.where(elsewhere, other, array) for array, other in zip(arrays[:3], others[:3], strict=True)]
    after = _run(backend, causal, [*changed, arrays[3]], ids)
    assert np.any(before[0][ids == 1] != after[0][ids == 1])
    for array, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(array[ids == 2], other[ids == 2])
    for gradient in before[1:]:
        assert np.any(gradient[ids == 2])
        assert not np.any(gradient[ids != 2])


@every_backend
def test_a_later_position_changes_no_earlier_one(backend):
    ids = np.ones((len(ROWS), LENGTH), np.int32)
    arrays = _inputs()
    before = _run(backend, True, arrays, ids)[0]
    for at in (7, 128, 255):
        changed = [np.concatenate([x[:, :at], x[:, at:] + 1.0], 1) for x in arrays[:3]]
        after = _run(backend, True, [*changed, arrays[3]], ids)[0]
        np.testing.assert_array_equal(after[:, :at], before[:, :at])
        assert np.any(after[:, at] != before[:, at])


def _count(jaxpr, primitive):
    """How often a primitive stands in a program, inner ones included; what has no result the compiler drops."""
    read = {id(var) for eqn in jaxpr.eqns for var in eqn.invars} | {id(var) for var in jaxpr.outvars}
    used = [eqn for eqn in jaxpr.eqns if any(id(var) in read for var in eqn.outvars)]
    inner = (_count(sub, primitive) for eqn in used for sub in jax.extend.core.jaxprs_in_params(eqn.params))
    return sum(eqn.primitive.name == primitive for eqn in used) + sum(inner)


@pytest.mark.parametrize(
    "backend, primitive",
    [("segments", "while"), ("pallas_tpu", "pallas_call"), ("splash", "pallas_call"), ("pallas_gpu", "pallas_call")],
)
def test_a_remat_policy_that_keeps_the_residuals_spares_the_second_forward(backend, primitive):
    ids = _segment_ids()

    def runs(policy):
        def loss(q, k, v):
            return jnp.sum(jnp.sin(attend(q, k, v, ids, causal=True, backend=backend)))

        with interpreted_kernels():
            gradient = jax.grad(jax.checkpoint(loss, policy=policy))
            return _count(jax.make_jaxpr(gradient)(*_inputs()[:3]).jaxpr, primitive)

    everything, nothing = jax.checkpoint_policies.everything_saveable, jax.checkpoint_policies.nothing_saveable
    kept = runs(jax.checkpoint_policies.save_only_these_names(RESIDUALS))
    assert kept == runs(everything)
    assert kept < runs(nothing)


@pytest.mark.parametrize(
    "asked, platform, found",
    [
        ("auto", "cpu", "segments"),
        ("auto", "tpu", "pallas_tpu"),
        ("auto", "gpu", "pallas_gpu"),
        ("auto", "another", "xla"),
        ("xla", "tpu", "xla"),
        ("segments", "gpu", "segments"),
        ("pallas_tpu", "tpu", "pallas_tpu"),
        ("splash", "tpu", "splash"),
        ("pallas_gpu", "gpu", "pallas_gpu"),
    ],
)
def test_auto_is_the_platforms_own_backend_and_a_name_is_taken_at_its_word(asked, platform, found):
    assert choose_backend(asked, platform) == found


@pytest.mark.parametrize(
    "asked, platform, says",
    [
        ("pallas_tpu", "cpu", "TPU kernel"),
        ("splash", "cpu", "TPU kernel"),
        ("splash", "gpu", "TPU kernel"),
        ("pallas_gpu", "tpu", "GPU kernel"),
        ("cudnn", "gpu", "can't tell the segments of a packed row apart"),
        ("flash", "gpu", ", ".join(BACKENDS)),
    ],
)
def test_a_backend_that_cannot_serve_is_refused_in_one_line(asked, platform, says):
    with pytest.raises(InputError, match=says) as refusal:
        choose_backend(asked, platform)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("backend", ["pallas_tpu", "splash", "pallas_gpu"])
def test_rows_that_do_not_fit_a_kernel_are_refused(backend):
    x = np.zeros((1, 200, 2, 16), np.float32)
    with interpreted_kernels(), pytest.raises(InputError, match=r"rows of 200 positions.*multiples of 128"):
        attend(x, x, x, np.ones((1, 200), np.int32), causal=True, backend=backend)


@contextlib.contextmanager
def _pretend(platform):
    """A mesh of one device of a platform that this machine doesn't have."""
    device = AbstractDevice(device_kind="pretended", num_cores=1, platform=platform)
    mesh = AbstractMesh((1, 1, 1), MESH_AXES, (AxisType.Auto,) * 3, abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


@pytest.mark.parametrize(
    "platform, traced, kernel, kernels", [("tpu", "tpu", "tpu_custom_call", 2), ("cuda", "gpu", "triton", 3)]
)
def test_a_program_compiled_for_another_machine_gets_that_machines_kernel(
    monkeypatch, platform, traced, kernel, kernels
):
    shapes = [jax.ShapeDtypeStruct((1, 256, 2, 64), jnp.bfloat16)] * 3
    ids = jax.ShapeDtypeStruct((1, 256), jnp.int32)
    monkeypatch.setattr("ellav_jax.models.attention.backends.per_shard", lambda function, *_: function)

    def gradient(q, k, v, ids):
        assert traced_platform() == traced
        return jax.grad(lambda q: jnp.sum(attend(q, k, v, ids, causal=True).astype(jnp.float32)))(q)

    with _pretend(platform):
        lowered = jax.jit(gradient).trace(*shapes, ids).lower(lowering_platforms=(platform,)).as_text()
    # Forward and backward; on GPUs also the sums of gradient times output.
    assert sum(kernel in line and "custom_call" in line for line in lowered.splitlines()) == kernels
