"""What is particular to plain products: the block of queries changes nothing."""

import functools

import jax
import numpy as np
import pytest

from ellav_jax.models.attention import attend, xla


@pytest.mark.parametrize("causal", [True, False])
def test_the_block_of_queries_changes_nothing(monkeypatch, causal):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 53, 2, 8)).astype(np.float32) for _ in range(3))
    ids = np.repeat([[1, 2, 3, 0], [1, 2, 0, 0]], [20, 13, 15, 5], axis=1).astype(np.int32)

    def run(block):
        monkeypatch.setattr(xla, "QUERY_BLOCK", block)
        return jax.jit(functools.partial(attend, causal=causal, backend="xla"))(q, k, v, ids)

    np.testing.assert_allclose(run(16), run(53), rtol=0, atol=1e-6)
