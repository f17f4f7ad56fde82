"""Attention in plain products, a block of queries at a time: runs anywhere, and the compiler partitions it itself."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ellav_jax.models.attention.kernels import RESIDUALS

QUERY_BLOCK = 256
"""Queries handled at once. Causal attention skips the keys behind each block, which halves its work and its memory."""

_MASKED = -1e30  # finite: a row whose every key is masked must not become NaN


def attend_xla(
    q_BxTxHxD: jax.Array, k_BxTxHxD: jax.Array, v_BxTxHxD: jax.Array, segment_ids_BxT: jax.Array, *, causal: bool
) -> jax.Array:
    """As `attend`. Autodiff keeps the weights of all pairs, B·H·T² numbers (causal: half), unless they are remat's."""
    length = q_BxTxHxD.shape[1]
    blocks = []
    for start in range(0, length, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, length)
        keys = stop if causal else length
        mask_BxQxK = segment_ids_BxT[:, start:stop, None] == segment_ids_BxT[:, None, :keys]
        if causal:
            mask_BxQxK &= jnp.arange(start, stop)[:, None] >= jnp.arange(keys)[None, :]
        blocks.append(
            _attend_block(q_BxTxHxD[:, start:stop], k_BxTxHxD[:, :keys], v_BxTxHxD[:, :keys], mask_BxQxK[:, None])
        )
    return checkpoint_name(jnp.concatenate(blocks, 1) if len(blocks) > 1 else blocks[0], RESIDUALS)


def _attend_block(
    q_BxQxHxD: jax.Array, k_BxKxHxD: jax.Array, v_BxKxHxD: jax.Array, mask_Bx1xQxK: jax.Array
) -> jax.Array:
    scores_BxHxQxK = jnp.einsum("bqhd,bkhd->bhqk", q_BxQxHxD, k_BxKxHxD, preferred_element_type=jnp.float32)
    scores_BxHxQxK = jnp.where(mask_Bx1xQxK, scores_BxHxQxK * q_BxQxHxD.shape[-1] ** -0.5, _MASKED)
    weights_BxHxQxK = jax.nn.softmax(scores_BxHxQxK, axis=-1).astype(v_BxKxHxD.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights_BxHxQxK, v_BxKxHxD)
