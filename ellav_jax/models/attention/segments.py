"""Attention that visits only the keys which a block of queries can see: made for CPUs.

Both passes are loops over blocks of one row, all heads at once: two products of matrices a block forward, five backward,
and between them element-wise work on a block of scores that stays in the cache. Scores are not kept; the backward pass
computes them again from the logarithm of each query's softmax denominator. The recurrences are those of FlashAttention-2
(arXiv 2307.08691); blocks go by what each block's segments span, so the work grows with the segments' lengths squared,
not with the row's.

Arrays inside: B rows, H heads, T positions, K width of a head, float32; Q and S are a block of queries and one of keys.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from ellav_jax.models.attention.kernels import RESIDUALS

BLOCK = 128
"""Queries, and keys, of a block. Smaller ones visit fewer pairs in vain, larger ones start fewer operations."""

_LOWEST = -1e30  # finite: below every score, and its difference from itself is a number

Span = tuple[jax.Array, jax.Array]
"""For each position, [B, T] int32, the first position of those it is paired with, and the one behind their last."""


def attend_segments(
    q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array, segment_ids_BxT: jax.Array, *, causal: bool
) -> jax.Array:
    """As `attend`; zero at padding. All in float32, whatever the inputs' dtype."""
    length = q_BxTxHxK.shape[1]
    block = min(BLOCK, length)
    room = -length % block
    if room:
        widths = ((0, 0), (0, room), (0, 0), (0, 0))
        q_BxTxHxK, k_BxTxHxK, v_BxTxHxK = (jnp.pad(x, widths) for x in (q_BxTxHxK, k_BxTxHxK, v_BxTxHxK))
        segment_ids_BxT = jnp.pad(segment_ids_BxT, widths[:2])
    return _attend(q_BxTxHxK, k_BxTxHxK, v_BxTxHxK, segment_ids_BxT, causal, block)[:, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array, ids_BxT: jax.Array, causal: bool, block: int
) -> jax.Array:
    return _attend_and_keep(q_BxTxHxK, k_BxTxHxK, v_BxTxHxK, ids_BxT, causal, block)[0]


def _attend_and_keep(
    q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array, ids_BxT: jax.Array, causal: bool, block: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    q_BxHxTxK = _by_head(q_BxTxHxK) * q_BxTxHxK.shape[-1] ** -0.5
    keys, _ = _spans(ids_BxT, causal)
    mixed_BxHxTxK, log_sum_BxHxT = _forward(q_BxHxTxK, _by_head(k_BxTxHxK), _by_head(v_BxTxHxK), keys, block)
    out_BxTxHxK = checkpoint_name(jnp.swapaxes(mixed_BxHxTxK, 1, 2).astype(v_BxTxHxK.dtype), RESIDUALS)
    log_sum_BxHxT = checkpoint_name(log_sum_BxHxT, RESIDUALS)
    return out_BxTxHxK, (q_BxTxHxK, k_BxTxHxK, v_BxTxHxK, ids_BxT, out_BxTxHxK, log_sum_BxHxT)


def _gradients(
    causal: bool, block: int, kept: tuple[jax.Array, ...], d_out_BxTxHxK: jax.Array
) -> tuple[jax.Array | None, ...]:
    q_BxTxHxK, k_BxTxHxK, v_BxTxHxK, ids_BxT, out_BxTxHxK, log_sum_BxHxT = kept
    q, k, v, d_out, out = (_by_head(x) for x in (q_BxTxHxK, k_BxTxHxK, v_BxTxHxK, d_out_BxTxHxK, out_BxTxHxK))
    scale = q.shape[-1] ** -0.5
    _, seers = _spans(ids_BxT, causal)
    dq, dk, dv = _backward((q * scale, d_out, log_sum_BxHxT, jnp.sum(d_out * out, -1)), k, v, seers, block)
    gradients = (dq * scale, q_BxTxHxK), (dk, k_BxTxHxK), (dv, v_BxTxHxK)
    return *(jnp.swapaxes(gradient, 1, 2).astype(x.dtype) for gradient, x in gradients), None


_attend.defvjp(_attend_and_keep, _gradients)


def _by_head(x_BxTxHxK: jax.Array) -> jax.Array:
    return jnp.swapaxes(x_BxTxHxK, 1, 2).astype(jnp.float32)


def _spans(segment_ids_BxT: jax.Array, causal: bool) -> tuple[Span, Span]:
    """The keys that each query sees, and the queries that see each key. Padding's are empty: from T to 0."""
    length = segment_ids_BxT.shape[1]
    at = jnp.arange(length)
    breaks = segment_ids_BxT[:, 1:] != segment_ids_BxT[:, :-1]
    edge = jnp.ones_like(breaks, shape=(len(breaks), 1))
    starts = lax.cummax(jnp.where(jnp.concatenate([edge, breaks], 1), at, 0), axis=1)
    stops = lax.cummin(jnp.where(jnp.concatenate([breaks, edge], 1), at + 1, length), axis=1, reverse=True)
    keys, queries = ((starts, at + 1), (at, stops)) if causal else ((starts, stops), (starts, stops))
    real = segment_ids_BxT > 0
    keys, queries = ((jnp.where(real, a, length), jnp.where(real, z, 0)) for a, z in (keys, queries))
    return keys, queries


def _cut(x: jax.Array, row: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Positions `start` and on of one row: [B, T] → [size], [B, H, T] → [H, size], [B, H, T, K] → [H, size, K]."""
    axis = min(x.ndim - 1, 2)
    at = [row] + [0] * (x.ndim - 1)
    at[axis] = start
    return lax.dynamic_slice(x, at, (1, *x.shape[1:axis], size, *x.shape[axis + 1 :]))[0]


def _paste(x: jax.Array, part: jax.Array, row: jax.Array, start: jax.Array) -> jax.Array:
    """The inverse of `_cut` for [B, H, T] and [B, H, T, K]."""
    return lax.dynamic_update_slice(x, part[None], (row, 0, start, 0)[: x.ndim])


def _visits(span: Span, row: jax.Array, start: jax.Array, block: int) -> tuple[Span, jax.Array, jax.Array]:
    """For the block at `start`: its spans, where the first of its partners stands, and how many blocks these fill."""
    first_Q, stop_Q = (_cut(bound, row, start, block) for bound in span)
    first = jnp.min(first_Q)
    return (first_Q, stop_Q), first, jnp.maximum(-(-(jnp.max(stop_Q) - first) // block), 0)


def _seen(span: Span, wanted: jax.Array, start: jax.Array, block: int) -> jax.Array:
    """Which of the partners at `start` and on each position is paired with, [block, block].

    At a row's end a block starts before the place it was `wanted` at: what it has in common with the one before it is out.
    """
    first_Q, stop_Q = span
    at_QxS = start + lax.broadcasted_iota(jnp.int32, (block, block), 1)
    return (at_QxS >= jnp.maximum(first_Q, wanted)[:, None]) & (at_QxS < stop_Q[:, None])


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, keys: Span, block: int) -> tuple[jax.Array, jax.Array]:
    """[B, H, T, K], queries scaled → what attention mixes, [B, H, T, K], and the softmax's log denominator, [B, H, T].

    Where there is no key the former is 0 and the latter so high that every weight computed with it is 0.
    """
    rows, heads, length, width = q.shape
    blocks = length // block

    def of_queries(index: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        row, start = index // blocks, index % blocks * block
        q_HxQxK = _cut(q, row, start, block)
        span, first, turns = _visits(keys, row, start, block)

        def of_keys(turn: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            mixed_HxQxK, highest_HxQ, total_HxQ = state
            wanted = first + turn * block
            at = jnp.minimum(wanted, length - block)
            scores_HxQxS = jnp.einsum("hqk,hsk->hqs", q_HxQxK, _cut(k, row, at, block))
            scores_HxQxS = jnp.where(_seen(span, wanted, at, block), scores_HxQxS, -jnp.inf)
            higher_HxQ = jnp.maximum(highest_HxQ, scores_HxQxS.max(-1))
            weights_HxQxS = jnp.exp(scores_HxQxS - higher_HxQ[..., None])
            fade_HxQ = jnp.exp(highest_HxQ - higher_HxQ)
            mixed_HxQxK = mixed_HxQxK * fade_HxQ[..., None]
            mixed_HxQxK += jnp.einsum("hqs,hsk->hqk", weights_HxQxS, _cut(v, row, at, block))
            return mixed_HxQxK, higher_HxQ, total_HxQ * fade_HxQ + weights_HxQxS.sum(-1)

        nothing = (jnp.zeros((heads, block, width)), jnp.full((heads, block), _LOWEST), jnp.zeros((heads, block)))
        mixed_HxQxK, highest_HxQ, total_HxQ = lax.fori_loop(0, turns, of_keys, nothing)
        some_HxQ = total_HxQ > 0
        out_HxQxK = mixed_HxQxK / jnp.where(some_HxQ, total_HxQ, 1)[..., None]
        log_sum_HxQ = jnp.where(some_HxQ, highest_HxQ + jnp.log(total_HxQ), -_LOWEST)
        return _paste(done[0], out_HxQxK, row, start), _paste(done[1], log_sum_HxQ, row, start)

    return lax.fori_loop(0, rows * blocks, of_queries, (jnp.zeros(q.shape), jnp.zeros(q.shape[:3])))


def _backward(
    queries: tuple[jax.Array, ...], k: jax.Array, v: jax.Array, seers: Span, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients by scaled queries, keys and values, [B, H, T, K] each.

    queries: scaled queries and the output's gradient, [B, H, T, K], the log denominator and the sum of gradient times
    output, [B, H, T]. seers: the queries that see each key. Keys stand outside, so that only the queries' gradient is
    gathered in memory, and scores stand on their side, keys by queries: no product but the last has to turn one over, and
    that gets the keys turned.
    """
    q, d_out, log_sum, slope = queries
    rows, heads, length, width = q.shape
    blocks = length // block
    k_turned_BxHxKxT = jnp.swapaxes(k, 2, 3)

    def of_keys(index: jax.Array, done: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        row, start = index // blocks, index % blocks * block
        k_HxSxK, v_HxSxK = _cut(k, row, start, block), _cut(v, row, start, block)
        k_HxKxS = lax.dynamic_slice(k_turned_BxHxKxT, (row, 0, 0, start), (1, heads, width, block))[0]
        span, first, turns = _visits(seers, row, start, block)

        def of_queries(turn: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            dk_HxSxK, dv_HxSxK, dq_BxHxKxT = state
            wanted = first + turn * block
            at = jnp.minimum(wanted, length - block)
            q_HxQxK, d_out_HxQxK = _cut(q, row, at, block), _cut(d_out, row, at, block)
            scores_HxSxQ = jnp.einsum("hsk,hqk->hsq", k_HxSxK, q_HxQxK) - _cut(log_sum, row, at, block)[:, None]
            weights_HxSxQ = jnp.exp(jnp.where(_seen(span, wanted, at, block), scores_HxSxQ, -jnp.inf))
            dv_HxSxK += jnp.einsum("hsq,hqk->hsk", weights_HxSxQ, d_out_HxQxK)
            d_weights_HxSxQ = jnp.einsum("hsk,hqk->hsq", v_HxSxK, d_out_HxQxK)
            d_scores_HxSxQ = weights_HxSxQ * (d_weights_HxSxQ - _cut(slope, row, at, block)[:, None])
            dk_HxSxK += jnp.einsum("hsq,hqk->hsk", d_scores_HxSxQ, q_HxQxK)
            dq_HxKxQ = jnp.einsum("hks,hsq->hkq", k_HxKxS, d_scores_HxSxQ)
            dq_HxKxQ += lax.dynamic_slice(dq_BxHxKxT, (row, 0, 0, at), (1, *dq_HxKxQ.shape))[0]
            return dk_HxSxK, dv_HxSxK, lax.dynamic_update_slice(dq_BxHxKxT, dq_HxKxQ[None], (row, 0, 0, at))

        zero = jnp.zeros((heads, block, width))
        dk_HxSxK, dv_HxSxK, dq_BxHxKxT = lax.fori_loop(0, turns, of_queries, (zero, zero, done[2]))
        return _paste(done[0], dk_HxSxK, row, start), _paste(done[1], dv_HxSxK, row, start), dq_BxHxKxT

    nothing = (jnp.zeros(k.shape), jnp.zeros(v.shape), jnp.zeros(k_turned_BxHxKxT.shape))
    dk, dv, dq_BxHxKxT = lax.fori_loop(0, rows * blocks, of_keys, nothing)
    return jnp.swapaxes(dq_BxHxKxT, 2, 3), dk, dv
