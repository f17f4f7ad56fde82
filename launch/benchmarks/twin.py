"""The PyTorch twin as an opponent of the training step: same weights, same utterances, the fastest way that it has."""

import dataclasses
import os
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from configs.experiment import Experiment
from data_pipelines.loader import empty_row
from ellav_jax.errors import InputError
from ellav_jax.export import torch_modules as twin
from ellav_jax.export.convert import to_torch, torch_config
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.run import HostBatch, TrainConfig
from launch.benchmarks.timing import timed

OPTIMIZERS: dict[str, dict[str, bool]] = {"fused": {"fused": True}, "foreach": {"foreach": True}}
"""PyTorch's two fast implementations of AdamW."""


@dataclasses.dataclass(frozen=True)
class TwinBatch:
    """What one step of the twin works on."""

    arrays: dict[str, torch.Tensor]
    segments: twin.Segments


class Twin:
    """A GAR or NAR in PyTorch (eager, float32) with AdamW; `choice` says how it runs, see `tune`."""

    def __init__(self, experiment: Experiment, num_phones: int, params: dict[str, Any]):
        """params: the JAX model's. Raises InputError for what the twin doesn't have."""
        _check_plain(experiment.train)
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(experiment.train.seed)
        self.kind, model = experiment.kind, experiment.model
        config = twin.TransformerConfig(**torch_config(model.transformer))
        if self.kind == "gar":
            self.module = twin.Gar(config, num_phones)
        else:
            choices = {"aligned_phones": model.aligned_phones, "tied_heads": model.tied_heads}
            self.module = twin.Nar(config, num_phones, **choices)
        self.module.load_state_dict({name: torch.tensor(array) for name, array in to_torch(params).items()})
        self.module.train()
        self.config = experiment.train.optimizer
        self.choice: dict[str, str] = {}
        self._use_optimizer("fused")

    def _use_optimizer(self, name: str) -> None:
        decayed = [p for p in self.module.parameters() if p.ndim > 1]
        others = [p for p in self.module.parameters() if p.ndim == 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        betas = (self.config.beta1, self.config.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=self.config.peak_lr, betas=betas, **OPTIMIZERS[name])

    def packed(self, batch: HostBatch, attention: str | None = None) -> TwinBatch:
        """Rows as the loader packs them. attention: "calls" (one for each utterance) or "mask"; None takes the choice."""
        arrays = _tensors(batch)
        if (attention or self.choice["attention"]) == "calls":
            return TwinBatch(arrays, twin.Segments.packed(arrays["segment_ids"]))
        return TwinBatch(arrays, twin.Segments.masked(arrays["segment_ids"], causal=self.kind == "gar"))

    def padded(self, batch: HostBatch) -> TwinBatch:
        """One utterance a row, as `pad_sorted` makes them."""
        arrays = _tensors(batch)
        lengths = (arrays["segment_ids"] > 0).sum(1)
        length = arrays["segment_ids"].shape[1]
        return TwinBatch(arrays, twin.Segments.padded(lengths, length, causal=self.kind == "gar"))

    def tune(self, batch: HostBatch) -> None:
        """Keeps the fastest of AdamW's implementations and of the ways to keep packed utterances apart."""
        best = float("inf")
        for optimizer, attention in product(OPTIMIZERS, ("calls", "mask")):
            self._use_optimizer(optimizer)
            one = self.packed(batch, attention)
            self.step(one)
            seconds = min(timed(lambda one=one: self.step(one)) for _ in range(2))
            if seconds < best:
                best, self.choice = seconds, {"optimizer": optimizer, "attention": attention}
        self._use_optimizer(self.choice["optimizer"])

    def step(self, batch: TwinBatch) -> None:
        """Forward, backward, clipping, AdamW."""
        arrays = batch.arrays
        if self.kind == "gar":
            names = ("inputs", "targets", "loss_mask", "positions")
            loss = twin.gar_loss(self.module, *(arrays[name] for name in names), batch.segments)
        else:
            inputs = twin.NarInputs(**{name: arrays[name] for name in twin.NarInputs.__dataclass_fields__})
            loss = twin.nar_loss(self.module, inputs, arrays["loss_mask"], batch.segments)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _check_plain(config: TrainConfig) -> None:
    plain = dataclasses.replace(config, loss=type(config.loss)(), accumulate=1)
    if plain != config or config.optimizer.name != "adamw" or config.optimizer.ema_decay != OptimizerConfig().ema_decay:
        raise InputError(
            "bench train --against torch: the twin has AdamW and plain cross-entropy only; choose an experiment without "
            "train.accumulate, train.loss and train.optimizer of another kind"
        )


def _tensors(batch: HostBatch) -> dict[str, torch.Tensor]:
    # The loss wants its targets, and look-ups are fastest with their indices, as 64 bits.
    tensors = {name: torch.tensor(array) for name, array in batch.items() if name != "dropout_keys"}
    return {name: tensor if tensor.dtype == torch.bool else tensor.long() for name, tensor in tensors.items()}


def pad_sorted(batches: Sequence[HostBatch], kind: str, positions: int) -> list[dict[str, np.ndarray]]:
    """The utterances of packed batches, sorted by length into padded batches of at most so many positions each."""
    utterances = [
        {name: array[row][ids == one] for name, array in batch.items()}
        for batch in batches
        for row, ids in enumerate(batch["segment_ids"])
        for one in range(1, int(ids.max()) + 1)
    ]
    groups: list[list[dict[str, np.ndarray]]] = [[]]
    for one in sorted(utterances, key=lambda arrays: len(arrays["positions"])):
        if (len(groups[-1]) + 1) * len(one["positions"]) > positions and groups[-1]:
            groups.append([])
        groups[-1].append(one)
    return [_padded(group, kind) for group in groups]


def _padded(group: list[dict[str, np.ndarray]], kind: str) -> dict[str, np.ndarray]:
    longest = len(group[-1]["positions"])
    rows = [empty_row(kind, longest) for _ in group]
    for row, arrays in zip(rows, group, strict=True):
        for name, array in arrays.items():
            row[name][: len(array)] = array
        row["segment_ids"][: len(arrays["positions"])] = 1
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
