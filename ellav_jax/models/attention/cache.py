"""Attention of one new position against what is cached: decoding."""

import jax
import jax.numpy as jnp

_MASKED = -1e30  # finite, so that an unseen slot's weight is 0 and never NaN


def attend_cache(q_BxHxD: jax.Array, k_BxTxHxD: jax.Array, v_BxTxHxD: jax.Array, last_B: jax.Array) -> jax.Array:
    """One query a row against its cached keys and values, slots 0 … last_B[b]. Returns [B, H, D]."""
    scores_BxHxT = jnp.einsum("bhd,bthd->bht", q_BxHxD, k_BxTxHxD, preferred_element_type=jnp.float32)
    seen_BxT = jnp.arange(k_BxTxHxD.shape[1]) <= last_B[:, None]
    scores_BxHxT = jnp.where(seen_BxT[:, None], scores_BxHxT * q_BxHxD.shape[-1] ** -0.5, _MASKED)
    weights_BxHxT = jax.nn.softmax(scores_BxHxT, axis=-1).astype(v_BxTxHxD.dtype)
    return jnp.einsum("bht,bthd->bhd", weights_BxHxT, v_BxTxHxD)
