"""What a batch contributes to loss and metrics: sums and counts, divided once at the end."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import NUM_LAYERS, Nar, NarInputs
from ellav_jax.vocabulary import NUM_CODES

Sums = dict[str, jax.Array]
"""float32 sums: `loss`, `tokens`, and for layers 1 … 8 `layer_loss`, `layer_correct`, `layer_codes` [8]."""


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Logits [..., V] and int targets [...] → losses [...] in nats."""
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jax.nn.logsumexp(logits, -1) - chosen


def gar_sums(model: Gar, batch: Mapping[str, jax.Array], dropout_key: jax.Array | None) -> Sums:
    """Loss over codes, EOP and EOS; layer 1's figures over codes alone."""
    logits_BxTxV = model(batch["inputs"], batch["segment_ids"], batch["positions"], dropout_key)
    targets_BxT, mask_BxT = batch["targets"], batch["loss_mask"]
    losses_BxT = cross_entropy(logits_BxTxV, targets_BxT)
    correct_BxT = logits_BxTxV.argmax(-1) == targets_BxT
    codes_BxT = mask_BxT & (targets_BxT < NUM_CODES)
    first = jnp.zeros(NUM_LAYERS).at[0]
    return {
        "loss": jnp.sum(losses_BxT, where=mask_BxT),
        "tokens": jnp.sum(mask_BxT, dtype=jnp.float32),
        "layer_loss": first.set(jnp.sum(losses_BxT, where=codes_BxT)),
        "layer_correct": first.set(jnp.sum(correct_BxT, where=codes_BxT, dtype=jnp.float32)),
        "layer_codes": first.set(jnp.sum(codes_BxT, dtype=jnp.float32)),
    }


def nar_sums(model: Nar, batch: Mapping[str, jax.Array], dropout_key: jax.Array | None) -> Sums:
    """Loss over the codes of each segment's stage, prompt left out.

    Segments of one row have different stages, so every stage's head runs over the row and counts where it is asked for;
    the scan keeps one head's logits alive at a time.
    """
    inputs = NarInputs(**{name: batch[name] for name in NarInputs.__dataclass_fields__})
    x_BxRxD = model(inputs, dropout_key)
    mask_BxR = batch["loss_mask"]

    @jax.checkpoint
    def stage_sums(x_BxRxD: jax.Array, stage: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits_BxRxC = model.logits(x_BxRxD, stage)
        targets_BxR = jnp.take(inputs.codes, stage - 1, axis=-1)
        here_BxR = mask_BxR & (inputs.stage == stage)
        return (
            jnp.sum(cross_entropy(logits_BxRxC, targets_BxR), where=here_BxR),
            jnp.sum(logits_BxRxC.argmax(-1) == targets_BxR, where=here_BxR, dtype=jnp.float32),
            jnp.sum(here_BxR, dtype=jnp.float32),
        )

    stages = jnp.arange(2, NUM_LAYERS + 1)
    _, (loss, correct, codes) = jax.lax.scan(lambda x, stage: (x, stage_sums(x, stage)), x_BxRxD, stages)
    return {
        "loss": loss.sum(),
        "tokens": codes.sum(),
        "layer_loss": jnp.pad(loss, (1, 0)),
        "layer_correct": jnp.pad(correct, (1, 0)),
        "layer_codes": jnp.pad(codes, (1, 0)),
    }
