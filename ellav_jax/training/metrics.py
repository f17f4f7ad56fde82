"""What a run tells: the log line, metrics.jsonl, tensorboard and, where asked for, Weights & Biases."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import psutil
from tensorboardX import SummaryWriter

from ellav_jax.training.sample import Sample
from ellav_jax.training.wandb_writer import WandbWriter, require_wandb


def log_line(step: int, steps: int, values: Mapping[str, float]) -> str:
    """One line for people, from the values of one entry of metrics.jsonl."""
    mfu = f"MFU {values['mfu']:.1%}" if "mfu" in values else "MFU n/a"
    eta = int(values["seconds_per_step"] * (steps - step))
    memory = [
        f"{place} {values[name]:.2f} GiB"
        for place, name in (("host", "host_rss_gib"), ("device", "device_peak_gib"))
        if name in values
    ]
    return "  ".join(
        [
            f"step {step}/{steps}",
            f"loss {values['loss']:.3f}",
            f"acc {values['accuracy']:.3f}",
            f"lr {values['learning_rate']:.2g}",
            f"grad {values['grad_norm']:.2f}",
            f"{1e3 * values['seconds_per_step']:.1f} ms/step",
            f"{_short(values['positions_per_second'])} pos/s ({values['real_share']:.1%} real)",
            f"{_short(values['audio_seconds_per_second'])} audio-s/s",
            f"{values['tflops_per_device']:.3g} TFLOP/s/dev",
            mfu,
            *memory,
            f"eta {eta // 3600}h{eta // 60 % 60:02d}m{eta % 60:02d}s",
        ]
    )


def _short(number: float) -> str:
    for unit in ("", "k", "M"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}G"


def memory_figures(devices: Sequence[jax.Device]) -> dict[str, float]:
    """`host_rss_gib`, what this process holds of its host's memory now; and where the backend tells (CPUs don't),
    `device_peak_gib`, the most that one of this process's `devices` has held since the process began."""
    figures = {"host_rss_gib": psutil.Process().memory_info().rss / 2**30}
    stats = [device.memory_stats() for device in devices if device.process_index == jax.process_index()]
    peaks = [found["peak_bytes_in_use"] for found in stats if found and "peak_bytes_in_use" in found]
    return figures | ({"device_peak_gib": max(peaks) / 2**30} if peaks else {})


class Sink(Protocol):
    """Somewhere to write to."""

    def write(self, step: int, values: Mapping[str, float], split: str) -> None:
        """Figures of a step."""
        ...

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """What the model said at a step."""
        ...

    def close(self) -> None:
        """Flushes and closes."""
        ...


class MetricsWriter:
    """Appends to WORKDIR/metrics.jsonl and WORKDIR/tensorboard, and to a run of Weights & Biases where `wandb` names its
    project; `about` is then the run's configuration. Process 0 writes; what other processes write is dropped.

    Raises InputError when wandb is asked for and not there.
    """

    def __init__(self, workdir: Path, *, wandb: str | None = None, about: Mapping[str, Any] | None = None):
        if wandb is not None:
            require_wandb()
        self._sinks: list[Sink] = []
        if jax.process_index() == 0:
            self._sinks += [_JsonLines(workdir / "metrics.jsonl"), _Tensorboard(workdir / "tensorboard")]
            if wandb is not None:
                self._sinks.append(WandbWriter(workdir, wandb, about or {}))

    def write(self, step: int, values: Mapping[str, float], *, split: str) -> None:
        """One line of JSON {step, split, …} and a scalar for each value, under its split."""
        for sink in self._sinks:
            sink.write(step, values, split)

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Sound and picture of each sample, where they can be heard and seen."""
        for sink in self._sinks:
            sink.write_samples(step, samples)

    def close(self) -> None:
        """Flushes and closes all."""
        for sink in self._sinks:
            sink.close()


class _JsonLines:
    def __init__(self, path: Path):
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def write(self, step: int, values: Mapping[str, float], split: str) -> None:
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Nothing: samples are no figures."""

    def close(self) -> None:
        self._file.close()


class _Tensorboard:
    def __init__(self, directory: Path):
        self._board = SummaryWriter(str(directory))

    def write(self, step: int, values: Mapping[str, float], split: str) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        for one in samples:
            waveform_S = np.clip(one.waveform_S, -1, 1)
            self._board.add_audio(f"samples/{one.name}", waveform_S, step, sample_rate=one.sample_rate)
            self._board.add_image(f"samples/{one.name}", one.picture_HxWx3, step, dataformats="HWC")
        self._board.flush()

    def close(self) -> None:
        self._board.close()


def read_metrics(path: Path, split: str) -> list[dict[str, float]]:
    """Entries of a metrics.jsonl of one split, the last of each step, in order (a resumed run may repeat steps)."""
    entries = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    by_step = {entry["step"]: entry for entry in entries if entry["split"] == split}
    return [by_step[step] for step in sorted(by_step)]
