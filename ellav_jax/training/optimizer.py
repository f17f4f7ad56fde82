"""AdamW with warm-up."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate.

    Of the paper's values β₁, weight decay, peak and warm-up are those of VALL-E's authors; β₂ (0.98 or 0.999) and the
    schedule are recalled, not confirmed. Defaults are for a run at the paper's scale.

    schedule: "inverse_sqrt" decays with √(warmup / step) after the warm-up; "cosine" falls to 1 % of the peak.
    weight_decay: on matrices and embeddings, not on norms and biases.
    """

    peak_lr: float = 5e-4
    warmup_steps: int = 32_000
    schedule: Literal["inverse_sqrt", "cosine"] = "inverse_sqrt"
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step → learning rate, over a run of `steps`."""
    warmup = max(1, config.warmup_steps)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0, config.peak_lr, warmup, max(steps, warmup + 1), 0.01 * config.peak_lr
        )
    return lambda step: config.peak_lr * jnp.minimum(step / warmup, jnp.sqrt(warmup / jnp.maximum(step, warmup)))


def make_optimizer(config: OptimizerConfig, steps: int, axes: Any) -> optax.GradientTransformation:
    """`axes`: nested dict of the parameters' logical axes; which of them are vectors (a layer's or not) is read from it."""

    def decays(names: tuple[str | None, ...]) -> bool:
        return len([name for name in names if name != "layers"]) > 1

    mask = jax.tree.map(decays, axes, is_leaf=lambda x: isinstance(x, tuple))
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps), config.beta1, config.beta2, weight_decay=config.weight_decay, mask=mask
        ),
    )
