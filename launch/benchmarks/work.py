"""What a training step does, in the terms of a benchmark's rates."""

from collections.abc import Sequence

import numpy as np

from ellav_jax.flops import segment_lengths
from ellav_jax.training.run import HostBatch, Run


def work_of(batches: Sequence[HostBatch], run: Run) -> tuple[dict[str, float], float]:
    """Work of a step and share of its positions that are real, on the average of these batches."""
    lengths = [segment_lengths(batch["segment_ids"]) for batch in batches]
    targets = [int(batch["loss_mask"].sum()) for batch in batches]
    positions = float(np.mean([batch["segment_ids"].size for batch in batches]))
    work = {
        "positions": positions,
        "audio_seconds": float(np.mean([run.frames(batch) for batch in batches])) / run.frame_rate,
        "model_flops": float(np.mean([run.flops(one, number) for one, number in zip(lengths, targets, strict=True)])),
    }
    return work, float(np.mean([one.sum() for one in lengths])) / positions
