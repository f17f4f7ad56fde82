"""Dropout whose masks are functions of the utterance, not of where it lies: packing, mesh and batch don't change them."""

import jax
import jax.numpy as jnp

_GOLDEN = 0x9E3779B9
"""Odd, near 2³² / φ: multiples of it are spread evenly over 32 bits."""


def mix(x: jax.Array) -> jax.Array:
    """uint32 → uint32, a bijection that lets every bit change every other.

    Two rounds of multiply and xor-shift, with Ellis and Wellons' constants ("lowbias32"). A tenth of threefry's work: the
    mask of a large activation would else cost as much as a matrix product on a CPU, and it is computed twice under remat.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def position_keys(utterance_keys_BxT: jax.Array, positions_BxT: jax.Array) -> jax.Array:
    """uint32 key of each position: of its utterance's key (any random 32 bits) and its place in it. [B, T]."""
    return mix(utterance_keys_BxT.astype(jnp.uint32) + mix(positions_BxT.astype(jnp.uint32) * jnp.uint32(_GOLDEN)))


def drop(x_BxTxD: jax.Array, rate: float, keys_BxT: jax.Array, place: jax.Array | int) -> jax.Array:
    """Zeroes a share `rate` of the numbers, and scales the others by 1 / (1 − rate).

    place: which of a model's dropouts this is; each has masks of its own.
    """
    keys_BxT = mix(keys_BxT ^ mix(jnp.asarray(place, jnp.uint32) + jnp.uint32(1)))
    channels_D = jnp.arange(x_BxTxD.shape[-1], dtype=jnp.uint32) * jnp.uint32(_GOLDEN)
    bits_BxTxD = mix(keys_BxT[..., None] + channels_D)
    return jnp.where(bits_BxTxD >= jnp.uint32(rate * 2**32), x_BxTxD / (1 - rate), 0).astype(x_BxTxD.dtype)
