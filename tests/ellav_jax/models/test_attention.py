"""Attention against a softmax written out query by query, and what must not reach a position."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.models import attention
from ellav_jax.models.attention import attend, attend_cache


def _inputs(length, rows=2, heads=2, width=8, seed=0):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(rows, length, heads, width)).astype(np.float32) for _ in range(3))
    return q, k, v


def _segments(length, rows=2, seed=0):
    """Three segments and padding (id 0) a row, cut elsewhere in each."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(np.arange(1, length), (rows, 3)), axis=-1)
    ids = 1 + np.sum(np.arange(length) >= cuts[..., None], axis=1)
    return np.where(ids == 4, 0, ids).astype(np.int32)


def _plain(q, k, v, segment_ids, causal):
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    out = np.empty_like(v)
    for b, t, h in np.ndindex(q.shape[:3]):
        seen = np.flatnonzero(segment_ids[b] == segment_ids[b, t])
        seen = seen[seen <= t] if causal else seen
        scores = k[b, seen, h] @ q[b, t, h] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights / weights.sum() @ v[b, seen, h]
    return out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 16, 53])
def test_it_is_a_softmax_within_segments_whatever_the_block(monkeypatch, causal, length):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 16)
    q, k, v = _inputs(length)
    segment_ids = _segments(length) if length > 3 else np.ones((2, length), np.int32)
    found = jax.jit(functools.partial(attend, causal=causal))(q, k, v, segment_ids)
    np.testing.assert_allclose(found, _plain(q, k, v, segment_ids, causal), rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_rows_above_the_real_block_size_agree_with_one_block(monkeypatch, causal):
    length = attention.QUERY_BLOCK + 37
    q, k, v = _inputs(length, rows=1)
    segment_ids = _segments(length, rows=1)
    blocked = jax.jit(functools.partial(attend, causal=causal))(q, k, v, segment_ids)
    monkeypatch.setattr(attention, "QUERY_BLOCK", length)
    whole = jax.jit(functools.partial(attend, causal=causal))(q, k, v, segment_ids)
    np.testing.assert_allclose(blocked, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_nothing_leaks_between_segments(monkeypatch, causal):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 16)
    length, cut = 40, 19  # the second segment begins inside a block
    q, k, v = _inputs(length, rows=1)
    other_q, other_k, other_v = _inputs(length, rows=1, seed=1)
    segment_ids = np.where(np.arange(length) < cut, 1, 2)[None].astype(np.int32)
    weights = np.random.default_rng(2).normal(size=v.shape).astype(np.float32)

    @jax.jit
    def values_and_gradients(q, k, v):
        def second(q, k, v):
            out = attend(q, k, v, segment_ids, causal=causal)
            return jnp.sum((out * weights)[:, cut:]), out

        (_, out), gradients = jax.value_and_grad(second, argnums=(0, 1, 2), has_aux=True)(q, k, v)
        return out, gradients

    out, gradients = values_and_gradients(q, k, v)
    mixed = [np.concatenate([b[:, :cut], a[:, cut:]], 1) for a, b in ((q, other_q), (k, other_k), (v, other_v))]
    other_out, other_gradients = values_and_gradients(*mixed)
    assert np.any(np.asarray(out)[:, :cut] != np.asarray(other_out)[:, :cut])
    np.testing.assert_array_equal(np.asarray(out)[:, cut:], np.asarray(other_out)[:, cut:])
    for gradient, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_array_equal(np.asarray(gradient)[:, cut:], np.asarray(other)[:, cut:])
        assert not np.any(np.asarray(gradient)[:, :cut])  # the second segment's sum owes the first nothing


def test_a_later_position_changes_no_earlier_one(monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 16)
    run = jax.jit(lambda q, k, v: attend(q, k, v, jnp.ones((1, 40), jnp.int32), causal=True))
    q, k, v = _inputs(40, rows=1)
    before = np.asarray(run(q, k, v))
    for at in (7, 16, 39):
        changed = [np.concatenate([a[:, :at], a[:, at:] + 1.0], 1) for a in (q, k, v)]
        after = np.asarray(run(*changed))
        np.testing.assert_array_equal(after[:, :at], before[:, :at])
        assert np.any(after[:, at] != before[:, at])


def test_padding_stays_finite():
    q, k, v = _inputs(6, rows=1)
    assert np.all(np.isfinite(attend(q, k, v, np.array([[1, 1, 0, 0, 0, 0]]), causal=False)))


def test_scores_and_softmax_are_float32_for_bfloat16_inputs():
    q, k, v = (a.astype(jnp.bfloat16) for a in _inputs(20, rows=1))
    out = attend(q, k, v, np.ones((1, 20), np.int32), causal=True)
    assert out.dtype == jnp.bfloat16
    exact = _plain(*(np.asarray(a, np.float32) for a in (q, k, v)), np.ones((1, 20)), causal=True)
    # bfloat16 keeps 8 bits: rounding of weights and of the result, nothing from the scores.
    np.testing.assert_allclose(np.asarray(out, np.float32), exact, rtol=0, atol=2**-7 * np.abs(exact).max())


def test_one_cached_query_is_the_last_row_of_the_whole():
    q, k, v = _inputs(12)
    last = np.array([4, 11])
    whole = _plain(q, k, v, np.ones((2, 12), np.int32), causal=True)
    found = attend_cache(q[np.arange(2), last], k, v, last)
    np.testing.assert_allclose(found, whole[np.arange(2), last], rtol=0, atol=2e-6)
