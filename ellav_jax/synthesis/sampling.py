"""Choosing a token from logits."""

import dataclasses

import jax
import jax.numpy as jnp

from ellav_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """temperature 0 is greedy; top_p keeps the smallest set of tokens with that much probability (nucleus sampling)."""

    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise InputError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, got {self.top_p}")


def sample(logits_BxV: jax.Array, keys_B: jax.Array, temperature: jax.Array, top_p: jax.Array) -> jax.Array:
    """→ int32 tokens [B]. Each row has its own key, so that its choice does not depend on its neighbours."""
    scaled_BxV = logits_BxV / jnp.maximum(temperature, 1e-6)
    sorted_BxV = -jnp.sort(-scaled_BxV, axis=-1)
    probability_BxV = jax.nn.softmax(sorted_BxV, axis=-1)
    ahead_BxV = jnp.cumsum(probability_BxV, axis=-1) - probability_BxV
    kept_BxV = ahead_BxV < top_p  # the likeliest token has nothing ahead of it and always stays
    least_Bx1 = jnp.min(sorted_BxV, axis=-1, keepdims=True, where=kept_BxV, initial=jnp.inf)
    drawn_B = jax.vmap(jax.random.categorical)(keys_B, jnp.where(scaled_BxV >= least_Bx1, scaled_BxV, -jnp.inf))
    return jnp.where(temperature == 0, logits_BxV.argmax(-1), drawn_B).astype(jnp.int32)
