"""Cached attention against a softmax written out."""

import jax
import numpy as np
import pytest

from ellav_jax.models.attention import attend_cache


# On a CPU it reads 128 slots at a time: ahead of a bucket's end, at it, behind it, and where the last one is cut off.
@pytest.mark.parametrize("last", [[4, 11], [0, 127], [128, 3], [255, 256], [299, 299]])
def test_one_cached_query_sees_the_slots_up_to_its_last(last):
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 3, 300, 8)), rng.normal(size=(2, 3, 300, 8))
    found = jax.jit(attend_cache)(*(x.astype(np.float32) for x in (q, k, v)), np.array(last))
    for row, head in np.ndindex(2, 3):
        slots = slice(0, last[row] + 1)
        weights = np.exp(k[row, head, slots] @ q[row, head] / np.sqrt(8))
        np.testing.assert_allclose(found[row, head], weights / weights.sum() @ v[row, head, slots], rtol=0, atol=2e-6)
