"""Attention of one new position against what is cached: decoding."""

import functools

import jax
import jax.numpy as jnp

_MASKED = -1e30  # finite, so that an unseen slot's weight is 0 and never NaN
BUCKET = 128
"""Slots that are read at a time on a CPU: what is read grows with what is cached, in steps of so many."""


def attend_cache(q_BxHxK: jax.Array, k_BxHxTxK: jax.Array, v_BxHxTxK: jax.Array, last_B: jax.Array) -> jax.Array:
    """One query a row against its cached keys and values, slots 0 … last_B[b]. Returns [B, H, K].

    The products read keys and values as they lie; other orders of the axes were copied in every step. On a CPU the
    slots behind the last bucket in use are not read: there the memory is what takes the time, and a branch is free.
    """
    slots = k_BxHxTxK.shape[2]
    buckets = [functools.partial(_attend, read=min(end, slots)) for end in range(BUCKET, slots + BUCKET, BUCKET)]

    def on_cpu(*arguments: jax.Array) -> jax.Array:
        return jax.lax.switch(jnp.max(arguments[3]) // BUCKET, buckets, *arguments)

    return jax.lax.platform_dependent(q_BxHxK, k_BxHxTxK, v_BxHxTxK, last_B, cpu=on_cpu, default=buckets[-1])


def _attend(
    q_BxHxK: jax.Array, k_BxHxTxK: jax.Array, v_BxHxTxK: jax.Array, last_B: jax.Array, *, read: int
) -> jax.Array:
    """The same over the first `read` slots."""
    k_BxHxRxK, v_BxHxRxK = k_BxHxTxK[:, :, :read], v_BxHxTxK[:, :, :read]
    scores_BxHxR = jnp.einsum("bhk,bhrk->bhr", q_BxHxK, k_BxHxRxK, preferred_element_type=jnp.float32)
    seen_BxR = jnp.arange(read) <= last_B[:, None]
    scores_BxHxR = jnp.where(seen_BxR[:, None], scores_BxHxR * q_BxHxK.shape[-1] ** -0.5, _MASKED)
    weights_BxHxR = jax.nn.softmax(scores_BxHxR, axis=-1).astype(v_BxHxRxK.dtype)
    return jnp.einsum("bhr,bhrk->bhk", weights_BxHxR, v_BxHxRxK)
