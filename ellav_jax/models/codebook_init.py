"""Embeddings of codes that begin with the geometry of the codec's codebooks."""

import jax
import jax.numpy as jnp


def codebook_embeddings(codebooks_QxCxE: jax.Array, width: int, key: jax.Array) -> jax.Array:
    """Codebook vectors [Q, C, E] → embeddings [Q, C, width], float32, of variance 1 / width in each codebook.

    Each codebook is centred and all are turned into `width` dimensions by one random orthonormal map (a random projection
    where E exceeds the width), so that codes which sound alike begin alike. Unknown in the paper; chosen because with
    little speech most codes are too rare to learn this from.
    """
    centred_QxCxE = codebooks_QxCxE - codebooks_QxCxE.mean(1, keepdims=True)
    size = max(codebooks_QxCxE.shape[-1], width)
    turn_ExD = jax.random.orthogonal(key, size)[: codebooks_QxCxE.shape[-1], :width]
    turned_QxCxD = centred_QxCxE @ turn_ExD
    return turned_QxCxD / (jnp.std(turned_QxCxD, axis=(1, 2), keepdims=True) * width**0.5)
