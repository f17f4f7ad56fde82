"""What a run is: how long, how often it does what, and the functions that it is made of."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import jax
import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.models.definition import Params
from ellav_jax.training.checkpoint import Card
from ellav_jax.training.cross_entropy import LossConfig
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.profiler import ProfileConfig
from ellav_jax.training.sample import Sample
from ellav_jax.training.step import Steps

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long a run is, and what it does every so many steps.

    accumulate: parts that a batch is worked off in, one after the other, where it does not fit in memory at once.
    wandb: project of Weights & Biases that the run is shown in as well.
    keep_checkpoints: how many of the latest stay; keep_checkpoints_every: those of every so many steps stay for good.
    watchdog_seconds: after so long without a step every thread's stack is printed and the process ends, instead of
    holding its machines for ever; 0 turns it off. It must be longer than compilation and a held-out evaluation.
    """

    steps: int = 320_000
    seed: int = 0
    accumulate: int = 1
    log_every: int = 50
    evaluate_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    keep_checkpoints_every: int = 0
    watchdog_seconds: float = 3600.0
    wandb: str | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    profile: ProfileConfig = ProfileConfig()

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.keep_checkpoints_every < 0:
            raise InputError(f"keep_checkpoints_every must be 0 or more, got {self.keep_checkpoints_every}")
        if not self.watchdog_seconds >= 0:
            raise InputError(f"watchdog_seconds must be 0 or more, got {self.watchdog_seconds}")


class BatchSource(Protocol):
    """An endless iterator of this process's part of each batch that knows where it stands."""

    def __iter__(self) -> Iterator[HostBatch]: ...

    @property
    def next_row(self) -> int:
        """Global index of the row that the next batch begins with."""
        ...

    def close(self) -> None:
        """Ends what reads ahead."""
        ...


class Speaker(Protocol):
    """Speaks samples with the model in training, every so many steps."""

    @property
    def every(self) -> int:
        """Steps from one time to the next."""
        ...

    def speak(self, params: Params, step: int) -> list[Sample]:
        """Samples of these parameters. All processes call it; process 0 gets them."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """All that a run needs beside its configuration.

    params: parameters of another run to begin with, laid out as the given ones are; None for random ones.
    batches: next row → batches from there on. held_out: → batches of held-out rows, shaped as in training.
    flops: (segment lengths of a batch, loss-bearing positions) → FLOPs of the step on it.
    frames: a batch → frames of speech in it. frame_rate: frames a second. say: where lines for people go.
    samples: speaks samples while the model trains; None for none.
    """

    steps: Steps
    params: Callable[[Params], Params] | None
    batches: Callable[[int], BatchSource]
    held_out: Callable[[], Iterable[HostBatch]]
    flops: Callable[[np.ndarray, int], float]
    frames: Callable[[HostBatch], int]
    frame_rate: int
    batch_sharding: jax.sharding.NamedSharding
    card: Card
    say: Callable[[str], None]
    samples: Speaker | None = None
