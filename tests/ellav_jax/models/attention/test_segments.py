"""What is particular to visiting only a segment's blocks: which pairs are visited, rows of any length, meshes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ellav_jax.models.attention import attend, segments

ROOT = Path(__file__).parents[4]


def _random_ids(rng, rows, length, most):
    """Rows of up to `most` segments, cut anywhere, padding behind them or not."""
    ids = np.zeros((rows, length), np.int32)
    for row in ids:
        edges = np.unique(rng.integers(0, length + 1, rng.integers(1, most + 1)))
        for index, (start, stop) in enumerate(zip([0, *edges[:-1]], edges, strict=True), start=1):
            row[start:stop] = index
    return ids


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 16, 53])
def test_blocks_are_exact_wherever_segments_are_cut(monkeypatch, causal, length):
    monkeypatch.setattr(segments, "BLOCK", 16)
    rng = np.random.default_rng(length)
    q, k, v, d_out = (rng.normal(size=(8, length, 2, 8)).astype(np.float32) for _ in range(4))

    @jax.jit
    def both(q, k, v, d_out, ids):
        def run(backend):
            out, pull = jax.vjp(lambda *qkv: attend(*qkv, ids, causal=causal, backend=backend), q, k, v)
            return out, *pull(d_out)

        return run("segments"), run("xla")

    for _ in range(4):
        ids = _random_ids(rng, 8, length, most=5)
        real = (ids > 0)[..., None, None]
        found, wanted = both(q, k, v, d_out * real, ids)
        for array, expected in zip(found, wanted, strict=True):
            assert not np.any(np.asarray(array)[ids == 0])
            np.testing.assert_allclose(array * real, expected * real, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal, visited", [(True, 1 + 2 + 1 + 1), (False, 2 + 2 + 2 + 2)])
def test_only_blocks_that_a_segment_reaches_are_visited(causal, visited):
    # Blocks of 4: segment 1 fills the first two, segment 2 the next and half of a fourth, a fifth is padding.
    ids = np.repeat([[1, 2, 0]], [8, 6, 6], axis=1).astype(np.int32)
    keys, seers = segments._spans(ids, causal)
    turns = [[int(segments._visits(span, 0, start, 4)[2]) for start in range(0, 20, 4)] for span in (keys, seers)]
    assert turns[0] == ([1, 2, 1, 2, 0] if causal else [2, 2, 2, 2, 0])
    assert turns[1] == ([2, 1, 2, 1, 0] if causal else [2, 2, 2, 2, 0])


SCRIPT = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from ellav_jax.models.attention import attend
from ellav_jax.sharding import MeshConfig, ShardingRules, make_mesh, on_mesh

rng = np.random.default_rng(0)
arrays = [rng.normal(size=(8, 40, 4, 8)).astype(np.float32) for _ in range(4)]
ids = np.repeat([[1, 2, 0]] * 4 + [[1, 2, 3]] * 4, [17, 13, 10], axis=1).astype(np.int32)

def run(q, k, v, d_out, ids):
    out, pull = jax.vjp(lambda *qkv: attend(*qkv, ids, causal=True, backend="segments"), q, k, v)
    return out, *pull(d_out)

alone = jax.jit(run)(*arrays, ids)
mesh, rules = make_mesh(MeshConfig(2, 2, 2)), ShardingRules()
spec = jax.NamedSharding(mesh, rules.spec(("batch", None, "heads", None), arrays[0].shape, mesh, "q"))
rows = jax.NamedSharding(mesh, rules.spec(("batch", None), ids.shape, mesh, "ids"))
with on_mesh(mesh, rules):
    compiled = jax.jit(run).lower(*(jax.device_put(x, spec) for x in arrays), jax.device_put(ids, rows)).compile()
    spread = compiled(*(jax.device_put(x, spec) for x in arrays), jax.device_put(ids, rows))
program = compiled.as_text()
print(json.dumps({
    "error": max(float(abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(alone, spread)),
    "piece": [x.addressable_shards[0].data.shape for x in spread],
    "collectives": [name for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute") if name in program],
}))
"""


@pytest.mark.slow
def test_on_a_mesh_each_device_attends_in_its_own_rows_and_heads():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["error"] < 1e-6
    assert found["piece"] == [[2, 40, 2, 8]] * 4
    assert found["collectives"] == []
