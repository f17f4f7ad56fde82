"""Residual vector quantisation: each codebook codes what those before it left over (arXiv 2107.03312, algorithm 1)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ellav_jax.codec.config import NUM_CODEBOOKS
from ellav_jax.codec.modules import PRECISION, Weights
from ellav_jax.codec.weights import codebook_name


def stack_codebooks(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The codebooks [Q, N, D] out of a codec's state dict."""
    return np.stack([arrays[codebook_name(layer)] for layer in range(NUM_CODEBOOKS)])


def _first_argmax(scores_BxTxN: jax.Array) -> jax.Array:
    # jnp.argmax's paired reduction is not vectorised on CPU: two plain ones take a fifth of its time.
    size = scores_BxTxN.shape[-1]
    at_maximum_BxTxN = scores_BxTxN == jnp.max(scores_BxTxN, axis=-1, keepdims=True)
    return jnp.min(jnp.where(at_maximum_BxTxN, jnp.arange(size, dtype=jnp.int32), size), axis=-1)


class ResidualQuantizer(nnx.Module):
    """`NUM_CODEBOOKS` codebooks [Q, N, D]."""

    def __init__(self, weights: Weights):
        self.codebooks = nnx.Param(jnp.asarray(stack_codebooks(weights)))

    def encode(self, latents_BxTxD: jax.Array) -> jax.Array:
        """Latents float32 [B, T, D] → codes int32 [B, T, Q]: at each layer the nearest vector in Euclidean distance."""
        residual_BxTxD = latents_BxTxD
        codes = []
        for layer in range(NUM_CODEBOOKS):
            codebook_NxD = self.codebooks[layer]
            # |x|² is the same for all candidates and left out.
            half_norms_N = 0.5 * jnp.sum(jnp.square(codebook_NxD), axis=-1)
            scores_BxTxN = jnp.einsum("btd,nd->btn", residual_BxTxD, codebook_NxD, precision=PRECISION) - half_norms_N
            codes_BxT = _first_argmax(scores_BxTxN)
            residual_BxTxD = residual_BxTxD - codebook_NxD[codes_BxT]
            codes.append(codes_BxT)
        return jnp.stack(codes, axis=-1)

    def decode(self, codes_BxTxQ: jax.Array) -> jax.Array:
        """Codes int32 [B, T, Q] → the sum of their vectors, float32 [B, T, D]."""
        return sum(self.codebooks[layer][codes_BxTxQ[..., layer]] for layer in range(NUM_CODEBOOKS))
