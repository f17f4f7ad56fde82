"""The training loop."""

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.flops import device_peak, segment_lengths
from ellav_jax.sharding import global_batch
from ellav_jax.training.checkpoint import Card, Checkpoints
from ellav_jax.training.finite import check_finite
from ellav_jax.training.losses import Sums
from ellav_jax.training.metrics import MetricsWriter, log_line
from ellav_jax.training.optimizer import OptimizerConfig, learning_rate
from ellav_jax.training.step import Steps, TrainState
from ellav_jax.training.watchdog import watchdog

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long a run is, and what it does every so many steps. Keeps the latest `keep_checkpoints` checkpoints.

    watchdog_seconds: after so long without a step every thread's stack is printed and the process ends, instead of
    holding its machines for ever; 0 turns it off. It must be longer than compilation and a held-out evaluation.
    """

    steps: int = 320_000
    seed: int = 0
    log_every: int = 50
    evaluate_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    watchdog_seconds: float = 3600.0
    optimizer: OptimizerConfig = OptimizerConfig()

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
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


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """All that a run needs beside its configuration.

    batches: next row → batches from there on. held_out: → batches of held-out rows, shaped as in training.
    flops: (segment lengths of a batch, loss-bearing positions) → FLOPs of the step on it.
    frames: a batch → frames of speech in it. frame_rate: frames a second. say: where lines for people go.
    """

    steps: Steps
    batches: Callable[[int], BatchSource]
    held_out: Callable[[], Iterable[HostBatch]]
    flops: Callable[[np.ndarray, int], float]
    frames: Callable[[HostBatch], int]
    frame_rate: int
    batch_sharding: jax.sharding.NamedSharding
    card: Card
    say: Callable[[str], None]


def train(config: TrainConfig, run: Run, workdir: Path) -> dict[str, float]:
    """Trains to `config.steps`, from the latest checkpoint of `workdir` if it has one. → the last held-out figures.

    SIGINT, and SIGTERM as schedulers send it before they take a machine away, end it after the step under way with a
    checkpoint, and raise KeyboardInterrupt. Raises RunError when loss or gradient is NaN or infinite: what was found is
    in `workdir`/nonfinite-STEP.json, and no checkpoint is made of it.
    """
    checkpoints = Checkpoints(
        workdir / "checkpoints", every=config.checkpoint_every, keep=config.keep_checkpoints, card=run.card, say=run.say
    )
    writer = MetricsWriter(workdir)
    key = jax.random.key(config.seed)

    # 1. A work directory with checkpoints continues from the latest. 2. Otherwise parameters are fresh.
    restored = checkpoints.restore(run.steps.abstract)
    state, next_row = restored or (run.steps.init(key), 0)
    step = first = int(state["step"])
    run.say(f"{'resumed at' if restored else 'fresh start at'} step {step}, row {next_row}")
    figures: dict[str, float] = {}
    window = Window()

    def check(metrics: Sequence[dict[str, jax.Array]], drawn: int) -> None:
        check_finite(metrics, step, state["params"], (drawn, batch_rows), workdir)

    with (
        _stop_after_step() as stopping,
        watchdog(config.watchdog_seconds) as feed,
        closing(checkpoints),
        closing(writer),
        closing(run.batches(next_row)) as batches,
    ):
        while step < config.steps and not stopping.is_set():
            feed()
            batch = next(batches)
            whole_batch = global_batch(batch, run.batch_sharding)
            batch_rows = len(whole_batch["segment_ids"])
            state, metrics = run.steps.train(state, whole_batch, key)
            if window.steps == config.log_every:  # fetched only now, with the next step already on the devices
                _log(window, step, config, run, writer)
                check(window.metrics, batches.next_row - batch_rows)
                window = Window()
            step += 1
            if step == first + 1:
                jax.block_until_ready(metrics)
                run.say(f"first step, with compilation: {window.seconds:.1f} s")
                window = Window()
            else:
                window.add(batch, batch_rows, metrics, run)
            if step % config.evaluate_every == 0 or step == config.steps:
                if window.steps:
                    _log(window, step, config, run, writer)
                check(window.metrics or [metrics], batches.next_row)
                figures = evaluate(run, state)
                run.say(
                    f"step {step}  held out: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
                )
                writer.write(step, figures, split="held_out")
                window = Window()
            if step % config.checkpoint_every == 0:
                check(window.metrics or [metrics], batches.next_row)
            checkpoints.save(step, state, batches.next_row)
        if step > first:
            check(window.metrics or [metrics], batches.next_row)
        # Behind the loop, where no signal can come between looking for one and saving.
        checkpoints.save(step, state, batches.next_row, force=True)
    if step < config.steps:
        run.say(f"stopped at step {step}, checkpoint saved; the same command continues")
        raise KeyboardInterrupt
    return figures or evaluate(run, state)


class Window:
    """The steps between two log lines: their metrics, still on the devices, and what their batches held."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, jax.Array]] = []
        self.positions = self.real = self.frames = self.flops = 0.0
        self._since = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps in the window."""
        return len(self.metrics)

    @property
    def seconds(self) -> float:
        """Seconds since the window opened."""
        return time.perf_counter() - self._since

    def add(self, batch: HostBatch, batch_rows: int, metrics: dict[str, jax.Array], run: Run) -> None:
        """Counts one step; every process counts its own rows, which stand for all `batch_rows` of the global batch."""
        lengths = segment_lengths(batch["segment_ids"])
        factor = batch_rows / len(batch["segment_ids"])
        self.metrics.append(metrics)
        self.positions += batch["segment_ids"].size * factor
        self.real += int(lengths.sum()) * factor
        self.frames += run.frames(batch) * factor
        self.flops += run.flops(lengths, int(batch["loss_mask"].sum())) * factor


def _log(window: Window, step: int, config: TrainConfig, run: Run, writer: MetricsWriter) -> None:
    fetched = jax.device_get(window.metrics)
    seconds = window.seconds
    devices = run.batch_sharding.mesh.devices
    flops = window.flops / seconds / devices.size
    peak = device_peak(devices.flat[0].device_kind)
    values = {name: float(np.mean([m[name] for m in fetched])) for name in ("loss", "accuracy", "grad_norm")}
    values |= {
        "learning_rate": float(learning_rate(config.optimizer, config.steps)(step - 1)),
        "seconds_per_step": seconds / window.steps,
        "positions_per_second": window.positions / seconds,
        "real_share": window.real / window.positions,
        "audio_seconds_per_second": window.frames / run.frame_rate / seconds,
        "tflops_per_device": flops / 1e12,
    }
    values |= {} if peak is None else {"mfu": flops / peak}
    run.say(log_line(step, config.steps, values))
    writer.write(step, values, split="train")


def evaluate(run: Run, state: TrainState) -> dict[str, float]:
    """Loss a token over the held-out rows, and loss and accuracy of codes by RVQ layer (those the model predicts)."""
    total: Sums | None = None
    for batch in run.held_out():
        sums = run.steps.evaluate(state["params"], global_batch(batch, run.batch_sharding))
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    sums = jax.device_get(total)
    figures = {"loss": float(sums["loss"] / sums["tokens"])}
    for layer, codes in enumerate(sums["layer_codes"]):
        if codes:
            figures[f"layer_{layer + 1}_loss"] = float(sums["layer_loss"][layer] / codes)
            figures[f"layer_{layer + 1}_accuracy"] = float(sums["layer_correct"][layer] / codes)
    return figures


@contextmanager
def _stop_after_step() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; a second one acts at once. Signals reach Python's main thread alone."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def stop(*_: object) -> None:
        stopping.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        restore()
