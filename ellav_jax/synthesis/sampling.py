"""Choosing a token from logits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ellav_jax.errors import InputError

MAX_WINDOW = 64
"""Codes at most that repetition-aware sampling looks back at."""


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """temperature 0 is greedy. top_k keeps the k likeliest tokens (0: all), top_p the smallest set of them with that much
    probability (nucleus sampling).

    repetition_window: repetition-aware sampling (VALL-E 2, arXiv 2406.05370, section 3.2; 10 there): a token that makes up
    more than repetition_share of the last so many codes is drawn anew from all tokens; 0: off. VALL-E needs it against
    droning; here the cap of a phone ends that, too.

    nar_temperature: how the NAR chooses layers 2 … 8. 0: the likeliest code, greedily, as the paper does. Above: the code
    whose embedding is nearest to the mean of all codes' under the NAR's probabilities at that temperature. Unknown in the
    paper; here because the likeliest code of a NAR that isn't sure adds noise (docs/more_speech.md has what it does).
    """

    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 0
    repetition_window: int = 0
    repetition_share: float = 0.1
    nar_temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise InputError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if not 0 <= self.nar_temperature < np.inf:
            raise InputError(f"nar_temperature must be 0 (greedy) or more, got {self.nar_temperature}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (all tokens) or more, got {self.top_k}")
        if not 0 <= self.repetition_window <= MAX_WINDOW:
            raise InputError(f"repetition_window must be 0 (off) to {MAX_WINDOW} codes, got {self.repetition_window}")
        if not 0 <= self.repetition_share < 1:
            raise InputError(f"repetition_share must be at least 0 and below 1, got {self.repetition_share}")

    def settings(self) -> "SamplingSettings":
        """What `sample` is given."""
        return SamplingSettings(
            np.float32(self.temperature),
            np.float32(self.top_p),
            np.int32(self.top_k),
            np.int32(self.repetition_window),
            np.float32(self.repetition_share),
        )


@functools.partial(jax.tree_util.register_dataclass)
@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """`SamplingConfig` as scalar arrays, so that other values bring no compilation: float32, but int32 top_k and window."""

    temperature: jax.Array
    top_p: jax.Array
    top_k: jax.Array
    repetition_window: jax.Array
    repetition_share: jax.Array


def sample(logits_BxV: jax.Array, keys_B: jax.Array, recent_BxW: jax.Array, settings: SamplingSettings) -> jax.Array:
    """→ int32 tokens [B]. Each row has its own key, so that its choice does not depend on its neighbours.

    recent_BxW: the last codes of each row, the latest first; −1 where there are fewer.
    """

    def greedy(_: None) -> jax.Array:
        return logits_BxV.argmax(-1).astype(jnp.int32)

    def draw(_: None) -> jax.Array:
        # Each row's draw is by its two keys: for the kept tokens, and for all of them where it repeats itself.
        pairs_BxP = jax.vmap(jax.random.split)(keys_B)
        scaled_BxV = logits_BxV / jnp.maximum(settings.temperature, 1e-6)
        kept_BxV = jnp.where(_kept(scaled_BxV, settings), scaled_BxV, -jnp.inf)
        chosen_B = jax.vmap(jax.random.categorical)(pairs_BxP[:, 0], kept_BxV)

        def unless_repeated(chosen_B: jax.Array) -> jax.Array:
            looked_at_W = jnp.arange(recent_BxW.shape[1]) < settings.repetition_window
            times_B = jnp.sum((recent_BxW == chosen_B[:, None]) & looked_at_W, 1)
            repeated_B = times_B > settings.repetition_share * settings.repetition_window
            return jnp.where(repeated_B, jax.vmap(jax.random.categorical)(pairs_BxP[:, 1], scaled_BxV), chosen_B)

        aware = settings.repetition_window > 0
        return jax.lax.cond(aware, unless_repeated, lambda chosen_B: chosen_B, chosen_B).astype(jnp.int32)

    return jax.lax.cond(settings.temperature == 0, greedy, draw, None)


def _kept(scaled_BxV: jax.Array, settings: SamplingSettings) -> jax.Array:
    """Which tokens are among the likeliest top_k, and of those in the smallest set with top_p of their probability."""
    sorted_BxV = -jnp.sort(-scaled_BxV, axis=-1)
    rank_V = jnp.arange(sorted_BxV.shape[1])
    among_BxV = (settings.top_k == 0) | (rank_V < settings.top_k)
    probability_BxV = jax.nn.softmax(jnp.where(among_BxV, sorted_BxV, -jnp.inf), axis=-1)
    ahead_BxV = jnp.cumsum(probability_BxV, axis=-1) - probability_BxV
    # The likeliest token has nothing ahead of it and always stays.
    kept_BxV = (ahead_BxV < settings.top_p) & among_BxV
    least_Bx1 = jnp.min(sorted_BxV, axis=-1, keepdims=True, where=kept_BxV, initial=jnp.inf)
    return scaled_BxV >= least_Bx1
