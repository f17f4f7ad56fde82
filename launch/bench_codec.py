"""`ellav bench codec`: how many times faster than real time the codec encodes and decodes real speech."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipelines.corpora import open_corpus
from ellav_jax.codec import load_codec
from ellav_jax.errors import InputError
from ellav_jax.files import write_json
from ellav_jax.resampling import resample


def run(
    codec: str = "bundled",
    against: Literal["none", "encodec"] = "none",
    seconds: float = 120.0,
    repetitions: int = 3,
    json: Path | None = None,
) -> dict[str, Any]:
    """Encodes and decodes `seconds` of bundled speech, prints a table and returns (and writes to `json`) its figures.

    codec: as `load_codec` takes it. against: `encodec` runs the encodec package (torch, float32) on the same weights
    and clips, alternating A B A B so that a busy machine slows both. Each backend gets the whole list of clips at once
    and may batch as it likes; one untimed pass of all of it goes first (compilation, caches). Raises InputError.
    """
    if seconds <= 0 or repetitions < 1:
        raise InputError(f"bench codec: {seconds} seconds x {repetitions}; expected more than 0 and at least 1")
    backends = {codec: load_codec(codec)}
    if against == "encodec":
        if codec.partition(":")[0] == "encodec":
            raise InputError(f"bench codec: codec {codec!r} is the encodec package already; give another --codec")
        backends[f"encodec:{codec}"] = load_codec(f"encodec:{codec}")
    clips = _speech(seconds, backends[codec].sample_rate)
    audio_seconds = sum(len(clip) for clip in clips) / backends[codec].sample_rate
    codes = backends[codec].encode_batch(clips)
    work: dict[tuple[str, str], Callable[[], list[np.ndarray]]] = {}
    for name, backend in backends.items():
        work["encode", name] = lambda backend=backend: backend.encode_batch(clips)
    for name, backend in backends.items():
        work["decode", name] = lambda backend=backend: backend.decode_batch(codes)
    results = {key: function() for key, function in work.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for direction in ("encode", "decode"):
        for _ in range(repetitions):
            for name in backends:
                times[direction, name].append(_timed(work[direction, name]))
    figures: dict[str, Any] = {
        "audio_seconds": audio_seconds,
        "clips": len(clips),
        "repetitions": repetitions,
        "environment": _environment(against),
        "rows": [
            {
                "direction": direction,
                "codec": name,
                "seconds": values,
                "median_seconds": statistics.median(values),
                "times_real_time": audio_seconds / statistics.median(values),
            }
            for (direction, name), values in times.items()
        ],
    }
    if against == "encodec":
        figures["ratio"] = {
            direction: statistics.median(times[direction, f"encodec:{codec}"])
            / statistics.median(times[direction, codec])
            for direction in ("encode", "decode")
        }
        figures["codes_equal"] = float(
            np.mean(np.concatenate(codes) == np.concatenate(results["encode", f"encodec:{codec}"]))
        )
    _print(figures)
    if json is not None:
        write_json(json, figures)
    return figures


def _speech(seconds: float, sample_rate: int) -> list[np.ndarray]:
    """Bundled clips, drawn evenly over the corpus, up to about so many seconds: lengths vary as in real data."""
    utterances = open_corpus("bundled").utterances
    order = np.random.default_rng(0).permutation(len(utterances))
    clips: list[np.ndarray] = []
    total = 0.0
    for index in order:
        wave, rate = utterances[index].audio.read()
        # The last one is cut, so that all runs of the same `seconds` have the same work.
        clips.append(resample(wave, rate, sample_rate)[: max(1, round((seconds - total) * sample_rate))])
        total += len(clips[-1]) / sample_rate
        if total >= seconds - 1 / sample_rate:
            break
    return clips


def _timed(function: Callable[[], Sequence[np.ndarray]]) -> float:
    begin = time.perf_counter()
    function()  # returns NumPy arrays: nothing is left running on the device
    return time.perf_counter() - begin


def _environment(against: str) -> dict[str, Any]:
    import jax

    packages = ["jax", "jaxlib", "flax"] + (["torch", "encodec"] if against == "encodec" else [])
    device = jax.devices()[0]
    environment: dict[str, Any] = {
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "machine": platform.machine(),
        "versions": {package: metadata.version(package) for package in packages},
    }
    if against == "encodec":
        import torch

        environment["torch_threads"] = torch.get_num_threads()
    return environment


def _print(figures: dict[str, Any]) -> None:
    table = Table("", "codec", "median s", "min … max s", "x real time")
    for row in figures["rows"]:
        low, high = min(row["seconds"]), max(row["seconds"])
        spread = f"{low:.2f} … {high:.2f}"
        table.add_row(
            row["direction"], row["codec"], f"{row['median_seconds']:.2f}", spread, f"{row['times_real_time']:.1f}"
        )
    console = Console()
    console.print(table)
    environment = figures["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    console.print(
        f"{figures['audio_seconds']:.1f} s of bundled speech, {figures['clips']} clips, {figures['repetitions']} "
        f"repetitions; {environment['device']}; {versions}",
        soft_wrap=True,
    )
    if "ratio" in figures:
        console.print(
            f"against the encodec package: encoding {figures['ratio']['encode']:.2f} x, decoding "
            f"{figures['ratio']['decode']:.2f} x as fast; {100 * figures['codes_equal']:.3f} % of the codes equal",
            soft_wrap=True,
        )
