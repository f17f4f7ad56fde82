"""AdamW or Muon, and the schedule of the learning rate."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from ellav_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate.

    Of the paper's values β₁, weight decay, peak and warm-up are those of VALL-E's authors; β₂ (0.98 or 0.999) and the
    schedule are recalled, not confirmed. Defaults are for a run at the paper's scale.

    name: "adamw", or "muon" (Jordan 2024; not the paper's) on the matrices of the blocks and AdamW on all else; its
    updates are scaled to AdamW's size (Liu et al. 2025, arXiv 2502.16982, section 2.2), so that both take one learning rate.
    schedule: "inverse_sqrt" decays with √(warmup / step) after the warm-up; "cosine" falls to 1 % of the peak; "wsd" stays
    at the peak until the last `decay_share` of the steps, and falls to 0 in a line.
    weight_decay: on matrices and embeddings, not on norms and biases.
    ema_decay: a moving average of the parameters is kept, evaluated and synthesised with; 0 keeps none. It begins as
    their mean: the decay of step n is at most (1 + n) / (10 + n).
    """

    name: Literal["adamw", "muon"] = "adamw"
    peak_lr: float = 5e-4
    warmup_steps: int = 32_000
    schedule: Literal["inverse_sqrt", "cosine", "wsd"] = "inverse_sqrt"
    decay_share: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if not 0 < self.decay_share <= 1:
            raise InputError(f"decay_share must be above 0 and at most 1, got {self.decay_share}")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step → learning rate, over a run of `steps`."""
    warmup = max(1, config.warmup_steps)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0, config.peak_lr, warmup, max(steps, warmup + 1), 0.01 * config.peak_lr
        )
    if config.schedule == "wsd":
        decay = max(1, math.ceil(config.decay_share * steps))
        return lambda step: config.peak_lr * jnp.clip(jnp.minimum(step / warmup, (steps - step) / decay), 0, 1)
    return lambda step: config.peak_lr * jnp.minimum(step / warmup, jnp.sqrt(warmup / jnp.maximum(step, warmup)))


def make_optimizer(config: OptimizerConfig, steps: int, axes: Any) -> optax.GradientTransformation:
    """`axes`: nested dict of the parameters' logical axes; which of them are matrices (a layer's or not) is read from it."""

    def own(names: tuple[str | None, ...]) -> list[str | None]:
        return [name for name in names if name != "layers"]

    def of_leaves(function: Any) -> Any:
        return jax.tree.map(function, axes, is_leaf=lambda x: isinstance(x, tuple))

    def adamw(mask: Any) -> optax.GradientTransformation:
        return optax.adamw(rate, config.beta1, config.beta2, weight_decay=config.weight_decay, mask=mask)

    rate = learning_rate(config, steps)
    decays = of_leaves(lambda names: len(own(names)) > 1)
    if config.name == "adamw":
        update = adamw(decays)
    else:
        # A stacked parameter's layers are matrices of their own. Look-up tables and heads are AdamW's.
        numbers = of_leaves(
            lambda names: (
                MuonDimensionNumbers(len(names) - 2, len(names) - 1)
                if len(own(names)) == 2 and not {"vocab", None} & set(names)
                else None
            )
        )
        labels = jax.tree.map(lambda n: "adamw" if n is None else "muon", numbers, is_leaf=_is_numbers)
        masked = jax.tree.map(lambda decay, label: decay if label == "adamw" else optax.MaskedNode(), decays, labels)
        on_matrices = muon(
            rate,
            weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=lambda _: numbers,
            consistent_rms=0.2,
        )
        update = optax.partition({"muon": on_matrices, "adamw": adamw(masked)}, labels)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _is_numbers(x: Any) -> bool:
    return x is None or isinstance(x, MuonDimensionNumbers)


def averaged(average: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """The moving average of parameters behind step `step` (from 0)."""
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
