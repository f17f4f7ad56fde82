"""Attention over packed rows: one call, whatever computes it."""

import jax
import jax.numpy as jnp

QUERY_BLOCK = 256
"""Queries handled at once. Causal attention skips the keys behind each block, which halves its work and its memory."""

_MASKED = -1e30  # finite: a row whose every key is masked must not become NaN


def attend(
    q_BxTxHxD: jax.Array,
    k_BxTxHxD: jax.Array,
    v_BxTxHxD: jax.Array,
    segment_ids_BxT: jax.Array,
    *,
    causal: bool,
    backend: str = "auto",
) -> jax.Array:
    """Scaled dot-product attention within segments; scores and softmax in float32.

    segment_ids_BxT: int32; a position sees only positions of its own id (padding, id 0, sees padding).
    causal: a position sees itself and what stands before it. Returns [B, T, H, D] in the dtype of `v`.
    """
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
    return jnp.concatenate(blocks, 1) if len(blocks) > 1 else blocks[0]


def _attend_block(
    q_BxQxHxD: jax.Array, k_BxKxHxD: jax.Array, v_BxKxHxD: jax.Array, mask_Bx1xQxK: jax.Array
) -> jax.Array:
    scores_BxHxQxK = jnp.einsum("bqhd,bkhd->bhqk", q_BxQxHxD, k_BxKxHxD, preferred_element_type=jnp.float32)
    scores_BxHxQxK = jnp.where(mask_Bx1xQxK, scores_BxHxQxK * q_BxQxHxD.shape[-1] ** -0.5, _MASKED)
    weights_BxHxQxK = jax.nn.softmax(scores_BxHxQxK, axis=-1).astype(v_BxKxHxD.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights_BxHxQxK, v_BxKxHxD)


def attend_cache(q_BxHxD: jax.Array, k_BxTxHxD: jax.Array, v_BxTxHxD: jax.Array, last_B: jax.Array) -> jax.Array:
    """One query a row against its cached keys and values, slots 0 … last_B[b]. Returns [B, H, D]."""
    scores_BxHxT = jnp.einsum("bhd,bthd->bht", q_BxHxD, k_BxTxHxD, preferred_element_type=jnp.float32)
    seen_BxT = jnp.arange(k_BxTxHxD.shape[1]) <= last_B[:, None]
    scores_BxHxT = jnp.where(seen_BxT[:, None], scores_BxHxT * q_BxHxD.shape[-1] ** -0.5, _MASKED)
    weights_BxHxT = jax.nn.softmax(scores_BxHxT, axis=-1).astype(v_BxTxHxD.dtype)
    return jnp.einsum("bht,bthd->bhd", weights_BxHxT, v_BxTxHxD)
