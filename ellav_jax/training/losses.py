"""What a batch contributes to loss and metrics: sums and counts, divided once at the end."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ellav_jax.errors import InputError
from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import NUM_LAYERS, Nar, NarInputs
from ellav_jax.vocabulary import NUM_CODES

Sums = dict[str, jax.Array]
"""float32 sums: `loss` (cross-entropy), `objective` (what is minimised), `tokens`, and for layers 1 … 8 `layer_loss`,
`layer_correct`, `layer_codes` [8]."""


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


def _dropout_keys(batch: Mapping[str, jax.Array], seed: jax.Array | None) -> jax.Array | None:
    return None if seed is None else batch["dropout_keys"] ^ seed


def gar_sums(
    model: Gar, batch: Mapping[str, jax.Array], dropout_seed: jax.Array | None, config: LossConfig = LossConfig()
) -> Sums:
    """Loss over codes, EOP and EOS; layer 1's figures over codes alone. dropout_seed: uint32, None for no dropout."""
    logits_BxTxV = model(batch["inputs"], batch["segment_ids"], batch["positions"], _dropout_keys(batch, dropout_seed))
    targets_BxT, mask_BxT = batch["targets"], batch["loss_mask"]
    losses_BxT, objectives_BxT = cross_entropy(logits_BxTxV, targets_BxT, config)
    correct_BxT = logits_BxTxV.argmax(-1) == targets_BxT
    codes_BxT = mask_BxT & (targets_BxT < NUM_CODES)
    first = jnp.zeros(NUM_LAYERS).at[0]
    return {
        "loss": jnp.sum(losses_BxT, where=mask_BxT),
        "objective": jnp.sum(objectives_BxT, where=mask_BxT),
        "tokens": jnp.sum(mask_BxT, dtype=jnp.float32),
        "layer_loss": first.set(jnp.sum(losses_BxT, where=codes_BxT)),
        "layer_correct": first.set(jnp.sum(correct_BxT, where=codes_BxT, dtype=jnp.float32)),
        "layer_codes": first.set(jnp.sum(codes_BxT, dtype=jnp.float32)),
    }


def nar_sums(
    model: Nar, batch: Mapping[str, jax.Array], dropout_seed: jax.Array | None, config: LossConfig = LossConfig()
) -> Sums:
    """Loss over the codes of each segment's stage, prompt left out. dropout_seed: uint32, None for no dropout.

    Segments of one row have different stages, so every stage's head runs over the row and counts where it is asked for;
    the scan keeps one head's logits alive at a time.
    """
    inputs = NarInputs(**{name: batch[name] for name in NarInputs.__dataclass_fields__})
    x_BxRxD = model(inputs, _dropout_keys(batch, dropout_seed))
    mask_BxR = batch["loss_mask"]

    @jax.checkpoint
    def stage_sums(x_BxRxD: jax.Array, stage: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        logits_BxRxC = model.logits(x_BxRxD, stage)
        targets_BxR = jnp.take(inputs.codes, stage - 1, axis=-1)
        here_BxR = mask_BxR & (inputs.stage == stage)
        losses_BxR, objectives_BxR = cross_entropy(logits_BxRxC, targets_BxR, config)
        return (
            jnp.sum(losses_BxR, where=here_BxR),
            jnp.sum(objectives_BxR, where=here_BxR),
            jnp.sum(logits_BxRxC.argmax(-1) == targets_BxR, where=here_BxR, dtype=jnp.float32),
            jnp.sum(here_BxR, dtype=jnp.float32),
        )

    stages = jnp.arange(2, NUM_LAYERS + 1)
    _, (loss, objective, correct, codes) = jax.lax.scan(lambda x, stage: (x, stage_sums(x, stage)), x_BxRxD, stages)
    return {
        "loss": loss.sum(),
        "objective": objective.sum(),
        "tokens": codes.sum(),
        "layer_loss": jnp.pad(loss, (1, 0)),
        "layer_correct": jnp.pad(correct, (1, 0)),
        "layer_codes": jnp.pad(codes, (1, 0)),
    }
