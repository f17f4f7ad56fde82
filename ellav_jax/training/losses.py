"""What a batch contributes to loss and metrics: sums and counts, divided once at the end."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import NUM_LAYERS, NUM_STAGES, Nar, NarInputs
from ellav_jax.training.cross_entropy import LossConfig, cross_entropy
from ellav_jax.training.staged_head import staged_sums
from ellav_jax.vocabulary import NUM_CODES

Sums = dict[str, jax.Array]
"""float32 sums: `loss` (cross-entropy), `objective` (what is minimised), `tokens`, and for layers 1 … 8 `layer_loss`,
`layer_correct`, `layer_codes` [8]."""


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
    """Loss over the codes of each segment's stage, prompt left out. dropout_seed: uint32, None for no dropout."""
    inputs = NarInputs(**{name: batch[name] for name in NarInputs.__dataclass_fields__})
    x_BxRxD = model(inputs, _dropout_keys(batch, dropout_seed))
    targets_BxR = jnp.take_along_axis(inputs.codes, inputs.stage[..., None] - 1, -1)[..., 0]
    stages_BxR = jnp.where(batch["loss_mask"], inputs.stage - 2, NUM_STAGES)
    heads_SxCxD = jnp.stack([model.head(stage) for stage in range(2, NUM_LAYERS + 1)])
    objective, loss, correct, codes = staged_sums(x_BxRxD, heads_SxCxD, targets_BxR, stages_BxR, config).T
    return {
        "loss": loss.sum(),
        "objective": objective.sum(),
        "tokens": codes.sum(),
        "layer_loss": jnp.pad(loss, (1, 0)),
        "layer_correct": jnp.pad(correct, (1, 0)),
        "layer_codes": jnp.pad(codes, (1, 0)),
    }
