"""The loss of a score against a target, and what is minimised beside it."""

import dataclasses

import jax
import jax.numpy as jnp

from ellav_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What is minimised beside cross-entropy; both are off in the paper as far as is known.

    z_loss: weight of log² Z, which keeps logits from drifting in long bfloat16 runs (1e-4 in PaLM, section 5).
    label_smoothing: share of the target's mass that is spread over all classes (Szegedy et al. 2016, section 7).
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not self.z_loss >= 0:
            raise InputError(f"z_loss must be 0 or more, got {self.z_loss}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")


def cross_entropy(
    logits: jax.Array, targets: jax.Array, config: LossConfig = LossConfig()
) -> tuple[jax.Array, jax.Array]:
    """Logits [..., V] and int targets [...] → losses in nats, and what is to be minimised, [...] each."""
    log_z = jax.nn.logsumexp(logits, -1)
    losses = log_z - jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    objectives = losses
    if config.label_smoothing:
        objectives += config.label_smoothing * (log_z - logits.mean(-1) - losses)
    if config.z_loss:
        objectives += config.z_loss * log_z**2
    return losses, objectives
