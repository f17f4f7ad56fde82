"""Losses of positions that have different heads: each position meets its own head alone, padding none.

Arrays inside: N positions, D width, S stages (heads), C classes, M blocks of K positions of one stage.
"""

import functools

import jax
import jax.numpy as jnp

from ellav_jax.models.transformer import product
from ellav_jax.sharding import per_shard
from ellav_jax.training.cross_entropy import LossConfig, cross_entropy

FIGURES = ("objective", "loss", "correct", "positions")
"""Columns of what `staged_sums` returns; see `Sums` in losses.py."""


def staged_sums(
    x_BxTxD: jax.Array, heads_SxCxD: jax.Array, targets_BxT: jax.Array, stages_BxT: jax.Array, config: LossConfig
) -> jax.Array:
    """Sums over the positions of each stage: float32 [S, 4], columns as in `FIGURES`. Only "objective" has a gradient.

    stages_BxT: int32, which head a position has, 0 … S − 1; S where it bears no loss. Under `on_mesh` each device works
    its own rows off.
    """

    def of_shard(x_BxTxD: jax.Array, heads_SxCxD: jax.Array, targets: jax.Array, stages: jax.Array) -> jax.Array:
        x_NxD = x_BxTxD.reshape(-1, x_BxTxD.shape[-1])
        return _sums(x_NxD, heads_SxCxD, targets.reshape(-1), stages.reshape(-1), config)[None]

    axes = (("batch", None, None), (None, None, None), ("batch", None), ("batch", None))
    return per_shard(of_shard, axes, ("batch", None, None))(x_BxTxD, heads_SxCxD, targets_BxT, stages_BxT).sum(0)


def _block_length(positions: int) -> int:
    # Large enough for fast products, small enough that a stage's last block, half empty on average, costs little.
    return min(2048, max(128, positions // 16))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _sums(
    x_NxD: jax.Array, heads_SxCxD: jax.Array, targets_N: jax.Array, stages_N: jax.Array, config: LossConfig
) -> jax.Array:
    return _walk(x_NxD, heads_SxCxD, targets_N, stages_N, config, gradients=False)[0]


def _forward(
    x_NxD: jax.Array, heads_SxCxD: jax.Array, targets_N: jax.Array, stages_N: jax.Array, config: LossConfig
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    sums, gradients = _walk(x_NxD, heads_SxCxD, targets_N, stages_N, config, gradients=True)
    return sums, (*gradients, stages_N)


def _backward(
    config: LossConfig, residuals: tuple[jax.Array, ...], sums_grad_Sx4: jax.Array
) -> tuple[jax.Array | None, ...]:
    x_grads_NxD, heads_grads_SxCxD, stages_N = residuals
    weights_S = sums_grad_Sx4[:, FIGURES.index("objective")]
    weights_N = jnp.append(weights_S, 0)[stages_N].astype(x_grads_NxD.dtype)
    return x_grads_NxD * weights_N[:, None], heads_grads_SxCxD * weights_S[:, None, None], None, None


_sums.defvjp(_forward, _backward)


def _walk(
    x_NxD: jax.Array,
    heads_SxCxD: jax.Array,
    targets_N: jax.Array,
    stages_N: jax.Array,
    config: LossConfig,
    *,
    gradients: bool,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
    """→ sums, and the objective's gradients by x and heads if they are asked for.

    Positions are sorted by stage and worked off in blocks of one stage each. Gradients are taken block by block while the
    scores are at hand: these need not be kept, nor computed twice.
    """
    num_stages, length = len(heads_SxCxD), _block_length(len(x_NxD))
    order_N = jnp.argsort(stages_N, stable=True)
    counts_S = jnp.sum(stages_N[:, None] == jnp.arange(num_stages), 0)
    blocks_S = -(-counts_S // length)
    first_S = jnp.cumsum(counts_S) - counts_S  # among the sorted positions
    last_block_S = jnp.cumsum(blocks_S)
    # As many blocks as there can be; those that are not needed have stage S and are skipped.
    block_M = jnp.arange(-(-len(x_NxD) // length) + num_stages)
    stage_M = jnp.searchsorted(last_block_S, block_M, side="right")
    in_stage_M = block_M - jnp.append(last_block_S - blocks_S, 0)[stage_M]
    rank_MxK = in_stage_M[:, None] * length + jnp.arange(length)
    real_MxK = rank_MxK < jnp.append(counts_S, 0)[stage_M][:, None]
    at_MxK = order_N[jnp.where(real_MxK, jnp.append(first_S, 0)[stage_M][:, None] + rank_MxK, 0)]

    def of_block(
        carry: tuple[jax.Array, jax.Array], block: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array | None]:
        at_K, real_K, stage = block

        def work(carry: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, jax.Array], jax.Array | None]:
            sums_Sx4, heads_grads = carry
            arguments = (x_NxD[at_K], heads_SxCxD[stage], targets_N[at_K], real_K, config)
            if not gradients:
                return (sums_Sx4.at[stage].add(_figures(*arguments)[1]), heads_grads), None
            (_, figures_4), (x_grads_KxD, head_grad_CxD) = jax.value_and_grad(_figures, argnums=(0, 1), has_aux=True)(
                *arguments
            )
            return (sums_Sx4.at[stage].add(figures_4), heads_grads.at[stage].add(head_grad_CxD)), x_grads_KxD

        def skip(carry: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, jax.Array], jax.Array | None]:
            return carry, jnp.zeros((length, x_NxD.shape[1]), x_NxD.dtype) if gradients else None

        return jax.lax.cond(stage < num_stages, work, skip, carry)

    nothing = jnp.zeros((num_stages, len(FIGURES))), jnp.zeros(heads_SxCxD.shape if gradients else ())
    (sums_Sx4, heads_grads), x_grads_MxKxD = jax.lax.scan(of_block, nothing, (at_MxK, real_MxK, stage_M))
    if not gradients:
        return sums_Sx4, None
    # Back to the positions' own order: where each of them stands among the blocks.
    place_N = jnp.zeros_like(order_N).at[order_N].set(jnp.arange(len(order_N)))
    shift_S = (last_block_S - blocks_S) * length - first_S
    place_N = jnp.minimum(place_N + jnp.append(shift_S, 0)[stages_N], real_MxK.size - 1)
    x_grads_NxD = x_grads_MxKxD.reshape(-1, x_NxD.shape[1])[place_N]
    return sums_Sx4, (jnp.where(stages_N[:, None] < num_stages, x_grads_NxD, 0), heads_grads)


def _figures(
    x_KxD: jax.Array, head_CxD: jax.Array, targets_K: jax.Array, real_K: jax.Array, config: LossConfig
) -> tuple[jax.Array, jax.Array]:
    """→ the objective's sum, and all `FIGURES`, [4]."""
    scores_KxC = product(x_KxD, head_CxD.T).astype(jnp.float32)
    losses_K, objectives_K = cross_entropy(scores_KxC, targets_K, config)
    correct_K = scores_KxC.argmax(-1) == targets_K
    columns = (objectives_K, losses_K, correct_K, jnp.ones_like(real_K))
    figures_4 = jnp.stack([jnp.sum(column, where=real_K, dtype=jnp.float32) for column in columns])
    return figures_4[0], figures_4
