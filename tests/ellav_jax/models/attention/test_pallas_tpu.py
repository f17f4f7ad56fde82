"""What is particular to the TPU's own kernel: several blocks, groups of heads, and rows that a core can't hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from ellav_jax.models.attention import attend, pallas_tpu
from ellav_jax.models.attention.kernels import interpreted_kernels
from ellav_jax.sharding import MESH_AXES


@pytest.mark.parametrize("heads, width, causal", [(4, 64, True), (1, 128, False), (3, 96, True)])
def test_groups_of_heads_and_blocks_are_exact(heads, width, causal):
    # Three blocks of 128: a segment over two edges, one within a block, one from an edge to padding.
    ids = np.repeat([[1, 2, 3, 4, 0]], [270, 20, 94, 100, 156], axis=1).astype(np.int32)
    real = (ids > 0)[..., None, None]
    rng = np.random.default_rng(width)
    q, k, v, d_out = (rng.normal(size=(1, ids.shape[1], heads, width)).astype(np.float32) for _ in range(4))

    @jax.jit
    def both(q, k, v, d_out):
        def run(backend):
            out, pull = jax.vjp(lambda *qkv: attend(*qkv, ids, causal=causal, backend=backend), q, k, v)
            return out * real, *pull(d_out)

        with interpreted_kernels():
            return run("pallas_tpu"), run("xla")

    assert pallas_tpu.block_of(ids.shape[1]) == 128
    for found, wanted in zip(*both(q, k, v, d_out * real), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal, visited", [(True, [1, 2, 1, 2]), (False, [2, 2, 2, 2])])
def test_blocks_of_other_segments_are_not_visited(causal, visited):
    # Blocks of 4: a segment fills the first two, the next most of the third; the padding is one as well.
    ids = np.repeat([[1, 2, 0]], [8, 3, 5], axis=1).astype(np.int32)
    starts, stops = pallas_tpu._segments(ids)
    behind = np.arange(1, 17)[None] if causal else stops
    first, end = pallas_tpu._visits(starts, behind, 4)
    assert (np.asarray(end) - np.asarray(first)).tolist() == [visited]


@pytest.mark.parametrize(
    "kind, length, kernel",
    [
        ("TPU v5p", 4096, "segment_attention"),
        ("TPU v5p", 16384, "splash"),
        ("TPU v4", 4096, "splash"),
    ],
)
def test_auto_takes_splash_where_a_core_cannot_hold_the_row(monkeypatch, kind, length, kernel):
    device = AbstractDevice(device_kind=kind, num_cores=1, platform="tpu")
    mesh = AbstractMesh((1, 1, 1), MESH_AXES, (AxisType.Auto,) * 3, abstract_device=device)
    monkeypatch.setattr("ellav_jax.models.attention.backends.per_shard", lambda function, *_: function)
    x = jax.ShapeDtypeStruct((1, length, 2, 64), jnp.bfloat16)
    with jax.sharding.use_abstract_mesh(mesh):
        program = jax.make_jaxpr(lambda *arrays: attend(*arrays, causal=True))(
            x, x, x, jax.ShapeDtypeStruct((1, length), np.int32)
        )
    assert kernel in str(program)
