"""Held-out figures of a run."""

import jax
import jax.numpy as jnp

from ellav_jax.sharding import global_batch
from ellav_jax.training.losses import Sums
from ellav_jax.training.run import Run
from ellav_jax.training.step import TrainState


def evaluate(run: Run, state: TrainState) -> dict[str, float]:
    """Loss a token over the held-out rows, and loss and accuracy of codes by RVQ layer (those the model predicts)."""
    total: Sums | None = None
    for batch in run.held_out():
        sums = run.steps.evaluate(state, global_batch(batch, run.batch_sharding))
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    sums = jax.device_get(total)
    figures = {"loss": float(sums["loss"] / sums["tokens"])}
    for layer, codes in enumerate(sums["layer_codes"]):
        if codes:
            figures[f"layer_{layer + 1}_loss"] = float(sums["layer_loss"][layer] / codes)
            figures[f"layer_{layer + 1}_accuracy"] = float(sums["layer_correct"][layer] / codes)
    return figures
