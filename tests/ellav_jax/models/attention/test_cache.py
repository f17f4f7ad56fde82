"""Cached attention against a softmax written out."""

import numpy as np

from ellav_jax.models.attention import attend_cache


def test_one_cached_query_sees_the_slots_up_to_its_last():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 12, 3, 8)), rng.normal(size=(2, 12, 3, 8))
    last = np.array([4, 11])
    found = attend_cache(*(x.astype(np.float32) for x in (q, k, v)), last)
    for row, head in np.ndindex(2, 3):
        slots = slice(0, last[row] + 1)
        weights = np.exp(k[row, slots, head] @ q[row, head] / np.sqrt(8))
        np.testing.assert_allclose(found[row, head], weights / weights.sum() @ v[row, slots, head], rtol=0, atol=2e-6)
