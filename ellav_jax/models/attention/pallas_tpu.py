"""Attention by a Pallas kernel of our own, which visits only the blocks that a segment reaches: TPUs.

One row and one group of heads at a time. Its queries, keys and values lie in the core's vector memory as they came from the
projections, [T, W]: W lanes, two heads of 64 or one of 128, so that nothing is copied into another layout on the way. Loops
over blocks of keys (backward: of queries) run between bounds made from the segments, so that the work grows with the
segments' lengths squared, not with the row's. Scores are not kept. The recurrences are those of FlashAttention-2 (arXiv
2307.08691), with powers of two for powers of e: log₂ e is in the queries' scale.

Scores stand keys by queries, [S, Q]: what belongs to a query (its softmax's maximum and sum, the ends of what it sees) is
then a row of lanes, and sums over keys add registers without moving numbers between lanes. Products whose result is as
wide as a head have that width as rows, [K, …], which the matrix unit takes at no loss; those that sum over a head take all W
lanes, with the other heads' zeroed: half of the unit's rows idle for heads of 64, as they would at 64 lanes.

Arrays inside: B rows, T positions, H heads, K width of a head, D = H·K, W lanes of a group; Q and S are a block of queries
and one of keys.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ellav_jax.models.attention.kernels import RESIDUALS, check_row, interpreted

BLOCKS = (512, 384, 256, 128)
"""Queries, and keys, of a block: the first that divides the row. Blocks of 256 visit a quarter less in vain, and the
compiler schedules them a third slower."""

_LANES = 128
_LOWEST = -1e30  # finite: below every score, and its difference from itself is a number
_LOG2_E = 1.4426950408889634
_VECTOR_MEMORY = 100 << 20  # asked for; the compiler grants what the core has

_ACROSS = ((1,), (1,))  # a · bᵀ
_ALONG = ((1,), (0,))  # a · b


@dataclasses.dataclass(frozen=True)
class _Options:
    heads: int
    width: int
    causal: bool
    interpret: bool

    @property
    def group(self) -> int:
        """Heads that share a group of lanes: as many as fill them; all, where that does not come out even."""
        fill = max(1, _LANES // self.width)
        return fill if self.heads % fill == 0 and fill * self.width % _LANES == 0 else self.heads

    @property
    def lanes(self) -> int:
        return self.group * self.width


def block_of(length: int) -> int:
    """Positions of a block in rows of this length, a multiple of 128."""
    return next(block for block in BLOCKS if length % block == 0)


def held_bytes(length: int, heads: int, width: int) -> int:
    """Vector memory that the backward pass takes for a row's group of heads, blocks of scores left out.

    bfloat16: five arrays in and three out, twice, since the next group's come in meanwhile, and three scratch; float32: the
    queries' gradient.
    """
    return length * _Options(heads, width, True, False).lanes * (2 * 8 * 2 + 3 * 2 + 4)


def attend_pallas_tpu(
    q_BxTxHxK: jax.Array, k_BxTxHxK: jax.Array, v_BxTxHxK: jax.Array, segment_ids_BxT: jax.Array, *, causal: bool
) -> jax.Array:
    """As `attend`; T a multiple of 128. Padding attends to padding: every query sees at least itself."""
    rows, length, heads, width = q_BxTxHxK.shape
    check_row("pallas_tpu", length)
    flat = (rows, length, heads * width)
    qkv = (x.reshape(flat) for x in (q_BxTxHxK, k_BxTxHxK, v_BxTxHxK))
    options = _Options(heads, width, causal, interpreted())
    return _attend(*qkv, *_segments(segment_ids_BxT), options).reshape(v_BxTxHxK.shape)


def _segments(ids_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each position the first of its segment, and the one behind its last: int32 [B, T]."""
    length = ids_BxT.shape[1]
    at = jnp.arange(length, dtype=jnp.int32)
    breaks = ids_BxT[:, 1:] != ids_BxT[:, :-1]
    edge = jnp.ones_like(breaks, shape=(len(breaks), 1))
    starts = lax.cummax(jnp.where(jnp.concatenate([edge, breaks], 1), at, 0), axis=1)
    stops = lax.cummin(jnp.where(jnp.concatenate([breaks, edge], 1), at + 1, length), axis=1, reverse=True)
    return starts, stops


def _visits(first_BxT: jax.Array, stop_BxT: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """First and last block (the latter exclusive) of those that each block meets, [B, blocks]; bounds only grow in a row."""
    return first_BxT[:, ::block] // block, -(-stop_BxT[:, block - 1 :: block] // block)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, stops: jax.Array, options: _Options
) -> jax.Array:
    return _attend_and_keep(q, k, v, starts, stops, options)[0]


def _attend_and_keep(
    q: jax.Array, k: jax.Array, v: jax.Array, starts: jax.Array, stops: jax.Array, options: _Options
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    rows, length, total = q.shape
    block, lanes, groups = block_of(length), options.lanes, total // options.lanes
    behind = jnp.broadcast_to(jnp.arange(1, length + 1, dtype=jnp.int32), starts.shape)
    # The keys that each query sees, for all of them: from its segment's first to itself, or to its segment's last.
    seen = (starts, behind if options.causal else stops)
    whole, line, log = _blocks(length, lanes, options.group)
    out, log_sum = pl.pallas_call(
        functools.partial(_forward, options=options),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(rows, groups),
            in_specs=[whole, whole, whole, line, line],
            out_specs=[whole, log],
            scratch_shapes=[pltpu.VMEM((lanes, length), v.dtype), pltpu.VMEM((lanes, block), jnp.float32)],
        ),
        out_shape=[
            jax.ShapeDtypeStruct(v.shape, v.dtype),
            jax.ShapeDtypeStruct((rows, groups, options.group, length), jnp.float32),
        ],
        compiler_params=_parameters(),
        interpret=options.interpret,
        name="segment_attention_forward",
    )(*_visits(*seen, block), q, k, v, *(bound[:, None] for bound in seen))
    out, log_sum = checkpoint_name(out, RESIDUALS), checkpoint_name(log_sum, RESIDUALS)
    return out, (q, k, v, starts, stops, out, log_sum)


def _gradients(options: _Options, kept: tuple[jax.Array, ...], d_out: jax.Array) -> tuple[jax.Array | None, ...]:
    q, k, v, starts, stops, out, log_sum = kept
    rows, length, total = q.shape
    block, lanes = block_of(length), options.lanes
    at = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), starts.shape)
    seen = (starts, at + 1 if options.causal else stops)
    # The queries that see each key.
    seers = (at if options.causal else starts, stops)
    whole, line, log = _blocks(length, lanes, options.group)
    turned, turned_block = pltpu.VMEM((lanes, length), q.dtype), pltpu.VMEM((lanes, block), jnp.float32)
    dq, dk, dv = pl.pallas_call(
        functools.partial(_backward, options=options),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(rows, total // lanes),
            in_specs=[whole] * 5 + [log, line, line],
            out_specs=[whole] * 3,
            scratch_shapes=[
                pltpu.VMEM((length, lanes), q.dtype),
                turned,
                turned,
                pltpu.VMEM((-(-options.group // 8) * 8, length), jnp.float32),
                pltpu.VMEM((lanes, block), k.dtype),
                pltpu.VMEM((lanes, length), jnp.float32),
                turned_block,
                turned_block,
            ],
        ),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k, v)],
        compiler_params=_parameters(),
        interpret=options.interpret,
        name="segment_attention_backward",
    )(*_visits(*seers, block), q, k, v, out, d_out, log_sum, *(bound[:, None] for bound in seen))
    return dq, dk, dv, None, None


_attend.defvjp(_attend_and_keep, _gradients)


def _blocks(length: int, lanes: int, group: int) -> tuple[pl.BlockSpec, pl.BlockSpec, pl.BlockSpec]:
    """What a turn of the grid (row, group) gets of arrays [B, T, D], [B, 1, T] and [B, groups, heads of one, T]."""
    return (
        pl.BlockSpec((1, length, lanes), lambda row, group, *_: (row, 0, group)),
        pl.BlockSpec((1, 1, length), lambda row, group, *_: (row, 0, 0)),
        pl.BlockSpec((1, 1, group, length), lambda row, group, *_: (row, group, 0, 0)),
    )


def _parameters() -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=_VECTOR_MEMORY)


def _dot(a: jax.Array, b: jax.Array, contracted: tuple) -> jax.Array:
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return lax.dot_general(a, b, (contracted, ((), ())), precision=precision, preferred_element_type=jnp.float32)


def _only(x_TxW: jax.Array, head: int, width: int) -> jax.Array:
    """One head's lanes of a group, zeros in the others'."""
    if x_TxW.shape[1] == width:
        return x_TxW
    lane = lax.broadcasted_iota(jnp.int32, x_TxW.shape, 1)
    return jnp.where((lane >= head * width) & (lane < (head + 1) * width), x_TxW, 0)


def _scaled(q_QxW: jax.Array, width: int) -> jax.Array:
    return (q_QxW.astype(jnp.float32) * (width**-0.5 * _LOG2_E)).astype(q_QxW.dtype)


def _span(at: jax.Array, block: int) -> pl.Slice:
    return pl.ds(pl.multiple_of(at * block, block), block)


def _seen(first_1xQ: jax.Array, stop_1xQ: jax.Array, block_of_keys: jax.Array, block: int) -> jax.Array:
    """Which keys of a block each query sees, [S, Q]."""
    key_SxQ = block_of_keys * block + lax.broadcasted_iota(jnp.int32, (block, block), 0)
    return (key_SxQ >= first_1xQ) & (key_SxQ < stop_1xQ)


def _forward(
    visit_ref, end_ref, q_ref, k_ref, v_ref, first_ref, stop_ref, out_ref, log_ref, turned_v_ref, mixed_ref, *, options
) -> None:
    """Refs: blocks met, [B, blocks] in scalar memory; q, k, v and the result [1, T, W]; bounds [1, 1, T]; log₂ of each
    softmax's denominator [1, 1, heads, T]. Scratch: values turned [W, T], a block's result [W, Q] float32."""
    row, length, width = pl.program_id(0), q_ref.shape[1], options.width
    block = block_of(length)
    turned_v_ref[...] = v_ref[0].T

    def of_queries(index: jax.Array, _: None) -> None:
        queries = _span(index, block)
        q_QxW = _scaled(q_ref[0, queries, :], width)
        q_heads = [_only(q_QxW, head, width) for head in range(options.group)]
        first_1xQ, stop_1xQ = first_ref[0, :, queries], stop_ref[0, :, queries]
        mixed_ref[...] = jnp.zeros_like(mixed_ref)

        def of_keys(other: jax.Array, state: tuple) -> tuple:
            keys = _span(other, block)
            k_SxW = k_ref[0, keys, :]
            seen_SxQ = _seen(first_1xQ, stop_1xQ, other, block)
            after = []
            for head, (highest_1xQ, total_1xQ) in enumerate(state):
                lanes = slice(head * width, (head + 1) * width)
                scores_SxQ = jnp.where(seen_SxQ, _dot(k_SxW, q_heads[head], _ACROSS), _LOWEST)
                higher_1xQ = jnp.maximum(highest_1xQ, scores_SxQ.max(0, keepdims=True))
                # Keys of other segments weigh 1 until a query meets its own; the first of these fades them to 0.
                weights_SxQ = jnp.exp2(scores_SxQ - higher_1xQ)
                fade_1xQ = jnp.exp2(highest_1xQ - higher_1xQ)
                v_KxS = turned_v_ref[lanes, keys]
                mixed_ref[lanes, :] = mixed_ref[lanes, :] * fade_1xQ + _dot(
                    v_KxS, weights_SxQ.astype(v_KxS.dtype), _ALONG
                )
                after.append((higher_1xQ, total_1xQ * fade_1xQ + weights_SxQ.sum(0, keepdims=True)))
            return tuple(after)

        nothing = (jnp.full((1, block), _LOWEST, jnp.float32), jnp.zeros((1, block), jnp.float32))
        final = lax.fori_loop(visit_ref[row, index], end_ref[row, index], of_keys, (nothing,) * options.group)
        for head, (highest_1xQ, total_1xQ) in enumerate(final):
            lanes = slice(head * width, (head + 1) * width)
            mixed_ref[lanes, :] = mixed_ref[lanes, :] / total_1xQ
            log_ref[0, 0, head : head + 1, queries] = highest_1xQ + jnp.log2(total_1xQ)
        out_ref[0, queries, :] = mixed_ref[...].T.astype(out_ref.dtype)

    lax.fori_loop(0, length // block, of_queries, None)


def _backward(
    *refs,
    options,
) -> None:
    """Refs: blocks met; q, k, v, result and its gradient [1, T, W]; log₂ denominators [1, 1, heads, T]; bounds [1, 1, T];
    gradients by q, k, v [1, T, W]. Scratch: scaled queries [T, W], they and the result's gradient turned [W, T], the sum of
    gradient times result for each head [heads, T] float32, a block of keys turned [W, S], and in float32 the gradients by
    queries [W, T] and by a block's keys and values [W, S]."""
    visit_ref, end_ref, q_ref, k_ref, v_ref, out_ref, d_out_ref, log_ref, first_ref, stop_ref, *rest = refs
    dq_ref, dk_ref, dv_ref, scaled_ref, turned_q_ref, turned_d_ref, slope_ref, turned_k_ref, *sums = rest
    dq_sum_ref, dk_sum_ref, dv_sum_ref = sums
    row, length, width, heads = pl.program_id(0), q_ref.shape[1], options.width, options.group
    block = block_of(length)
    dq_sum_ref[...] = jnp.zeros_like(dq_sum_ref)
    ones = jnp.ones((1, options.lanes), jnp.float32)
    members = [_only(ones, head, width) for head in range(heads)]
    member_HxW = jnp.concatenate(members + [jnp.zeros_like(ones)] * (len(slope_ref) - heads), 0)

    def prepare(index: jax.Array, _: None) -> None:
        queries = _span(index, block)
        d_out_QxW = d_out_ref[0, queries, :]
        slopes_QxW = d_out_QxW.astype(jnp.float32) * out_ref[0, queries, :].astype(jnp.float32)
        slope_ref[:, queries] = _dot(member_HxW, slopes_QxW, _ACROSS)
        scaled_ref[queries, :] = _scaled(q_ref[0, queries, :], width)
        turned_q_ref[:, queries] = scaled_ref[queries, :].T
        turned_d_ref[:, queries] = d_out_QxW.T

    def of_keys(index: jax.Array, _: None) -> None:
        keys = _span(index, block)
        k_SxW, v_SxW = k_ref[0, keys, :], v_ref[0, keys, :]
        turned_k_ref[...] = k_SxW.T
        k_heads, v_heads = ([_only(x, head, width) for head in range(heads)] for x in (k_SxW, v_SxW))
        dk_sum_ref[...] = jnp.zeros_like(dk_sum_ref)
        dv_sum_ref[...] = jnp.zeros_like(dv_sum_ref)

        def of_queries(other: jax.Array, _: None) -> None:
            queries = _span(other, block)
            q_QxW, d_out_QxW = scaled_ref[queries, :], d_out_ref[0, queries, :]
            seen_SxQ = _seen(first_ref[0, :, queries], stop_ref[0, :, queries], index, block)
            for head in range(heads):
                lanes, line = slice(head * width, (head + 1) * width), slice(head, head + 1)
                scores_SxQ = jnp.where(seen_SxQ, _dot(k_heads[head], q_QxW, _ACROSS), _LOWEST)
                weights_SxQ = jnp.exp2(scores_SxQ - log_ref[0, 0, line, queries])
                dv_sum_ref[lanes, :] += _dot(turned_d_ref[lanes, queries], weights_SxQ.astype(v_SxW.dtype), _ACROSS)
                d_weights_SxQ = _dot(v_heads[head], d_out_QxW, _ACROSS)
                d_scores_SxQ = (weights_SxQ * (d_weights_SxQ - slope_ref[line, queries])).astype(q_QxW.dtype)
                dk_sum_ref[lanes, :] += _dot(turned_q_ref[lanes, queries], d_scores_SxQ, _ACROSS)
                dq_sum_ref[lanes, queries] += _dot(turned_k_ref[lanes, :], d_scores_SxQ, _ALONG)

        lax.fori_loop(visit_ref[row, index], end_ref[row, index], of_queries, None)
        # The queries were scaled with log₂ e in it.
        dk_ref[0, keys, :] = (dk_sum_ref[...] / _LOG2_E).T.astype(dk_ref.dtype)
        dv_ref[0, keys, :] = dv_sum_ref[...].T.astype(dv_ref.dtype)

    def finish(index: jax.Array, _: None) -> None:
        queries = _span(index, block)
        dq_ref[0, queries, :] = (dq_sum_ref[:, queries] * width**-0.5).T.astype(dq_ref.dtype)

    for turn in (prepare, of_keys, finish):
        lax.fori_loop(0, length // block, turn, None)
