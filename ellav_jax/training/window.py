"""What the log tells: the steps since its last line, measured."""

import time

import jax
import numpy as np

from ellav_jax.flops import segment_lengths
from ellav_jax.hardware import device_peak
from ellav_jax.training.metrics import memory_figures
from ellav_jax.training.optimizer import learning_rate
from ellav_jax.training.run import HostBatch, Run, TrainConfig


class Window:
    """The steps between two log lines: their metrics, still on the devices, and what their batches held.

    before: the window that this one follows without a pause; it begins where that one ended.
    """

    def __init__(self, before: "Window | None" = None) -> None:
        self.metrics: list[dict[str, jax.Array]] = []
        self.positions = self.real = self.frames = self.flops = 0.0
        self._since = time.perf_counter() if before is None else before._since + before.seconds
        self._until: float | None = None

    @property
    def steps(self) -> int:
        """Steps in the window."""
        return len(self.metrics)

    @property
    def seconds(self) -> float:
        """Seconds from its opening to its end, or to now."""
        return (time.perf_counter() if self._until is None else self._until) - self._since

    def end_if_computed(self) -> None:
        """Ends it now, unless the devices are still at its last step: then `values` does, when they have done it.

        Without this the next step would be counted as well where the devices do it before Python goes on, as CPUs do.
        """
        if all(value.is_ready() for value in self.metrics[-1].values()):
            self._until = time.perf_counter()

    def add(self, batch: HostBatch, batch_rows: int, metrics: dict[str, jax.Array], run: Run) -> None:
        """Counts one step; every process counts its own rows, which stand for all `batch_rows` of the global batch."""
        lengths = segment_lengths(batch["segment_ids"])
        factor = batch_rows / len(batch["segment_ids"])
        self.metrics.append(metrics)
        self.positions += batch["segment_ids"].size * factor
        self.real += int(lengths.sum()) * factor
        self.frames += run.frames(batch) * factor
        self.flops += run.flops(lengths, int(batch["loss_mask"].sum())) * factor

    def values(self, step: int, config: TrainConfig, run: Run) -> dict[str, float]:
        """What the log tells of these steps, of which `step` is the last. Waits until they are computed."""
        fetched = jax.device_get(self.metrics)
        if self._until is None:
            self._until = time.perf_counter()
        seconds = self.seconds
        devices = run.batch_sharding.mesh.devices
        flops = self.flops / seconds / devices.size
        peak = device_peak(devices.flat[0].device_kind)
        values = {name: float(np.mean([m[name] for m in fetched])) for name in ("loss", "accuracy", "grad_norm")}
        values |= {
            "learning_rate": float(learning_rate(config.optimizer, config.steps)(step - 1)),
            "seconds_per_step": seconds / self.steps,
            "positions_per_second": self.positions / seconds,
            "real_share": self.real / self.positions,
            "audio_seconds_per_second": self.frames / run.frame_rate / seconds,
            "tflops_per_device": flops / 1e12,
        }
        values |= memory_figures(list(devices.flat))
        return values | ({} if peak is None else {"mfu": flops / peak})
