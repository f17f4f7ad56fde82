"""What a run tells: the log line, metrics.jsonl and tensorboard."""

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


def log_line(step: int, steps: int, values: Mapping[str, float]) -> str:
    """One line for people, from the values of one entry of metrics.jsonl."""
    mfu = f"MFU {values['mfu']:.1%}" if "mfu" in values else "MFU n/a"
    eta = int(values["seconds_per_step"] * (steps - step))
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
            f"eta {eta // 3600}h{eta // 60 % 60:02d}m{eta % 60:02d}s",
        ]
    )


def _short(number: float) -> str:
    for unit in ("", "k", "M"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}G"


class MetricsWriter:
    """Appends to WORKDIR/metrics.jsonl and WORKDIR/tensorboard."""

    def __init__(self, workdir: Path):
        self._file = open(workdir / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._board = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float], *, split: str) -> None:
        """One line of JSON {step, split, …} and a scalar for each value, under its split."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._board.close()


def read_metrics(path: Path, split: str) -> list[dict[str, float]]:
    """Entries of a metrics.jsonl of one split, the last of each step, in order (a resumed run may repeat steps)."""
    entries = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    by_step = {entry["step"]: entry for entry in entries if entry["split"] == split}
    return [by_step[step] for step in sorted(by_step)]
