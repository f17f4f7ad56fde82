"""`ellav bench codec`: how many times faster than real time the codec encodes and decodes real speech."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from ellav_jax.errors import InputError
from launch.benchmarks.process import Found, Task, measure, peak_bytes
from launch.benchmarks.record import Measure, Point, Record, environment
from launch.benchmarks.statistics import median
from launch.benchmarks.table import report
from launch.benchmarks.timing import by_turns

DIRECTIONS = ("encode", "decode")


def run(
    codec: Annotated[str, "as `load_codec` takes it"] = "bundled",
    against: Literal["none", "encodec"] = "none",
    seconds: float = 120.0,
    repetitions: int = 5,
    runs: int = 1,
    json: Path | None = None,
) -> Record:
    """Encodes and decodes `seconds` of bundled speech, prints a table and returns (and writes to `json`) the record.

    codec: as `load_codec` takes it. against: `encodec` runs the encodec package (torch, float32) on the same weights
    and clips, alternating A B A B so that a busy machine slows both. Each backend gets the whole list of clips at once
    and may batch as it likes; one untimed pass of all of it goes first (compilation, caches). What is decoded are codes
    at random, as many as the clips have. runs: fresh processes a direction. audio-s/s: times real time. Raises InputError.
    """
    if seconds <= 0 or repetitions < 1 or runs < 1:
        raise InputError(
            f"bench codec: {seconds} seconds x {repetitions}, {runs} runs; expected more than 0, at least 1 and 1"
        )
    if against == "encodec" and codec.partition(":")[0] == "encodec":
        raise InputError(f"bench codec: codec {codec!r} is the encodec package already; give another --codec")
    tasks = [
        Task(f"{codec} {direction}", measure_codec, (codec, direction, against == "encodec", seconds, repetitions))
        for direction in DIRECTIONS
    ]
    found, environment = measure(tasks, runs)
    protocol = {"codec": codec, "seconds": seconds, "repetitions": repetitions, "runs": runs, "against": against}
    return report(Record("codec", protocol, environment, found), json)


def measure_codec(
    codec: str, direction: Literal["encode", "decode"], against_encodec: bool, seconds: float, repetitions: int
) -> Found:
    """Measures one direction in this process. Raises InputError as `load_codec` does."""
    import jax

    from ellav_jax.codec import load_codec

    names = {"ours": codec} | ({"encodec": f"encodec:{codec}"} if against_encodec else {})
    backends = {name: load_codec(one) for name, one in names.items()}
    ours = backends["ours"]
    clips = _speech(seconds, ours.sample_rate)
    if direction == "decode":
        rng = np.random.default_rng(0)
        frames = [-(-len(clip) * ours.frame_rate // ours.sample_rate) for clip in clips]
        clips = [rng.integers(0, ours.codebook_size, (count, ours.num_codebooks)) for count in frames]
    audio_seconds = sum(map(len, clips)) / (ours.sample_rate if direction == "encode" else ours.frame_rate)

    def call(name: str) -> Callable[[], list[np.ndarray]]:
        backend = backends[name]
        return lambda: getattr(backend, f"{direction}_batch")(clips)

    work = {name: call(name) for name in backends}
    begin = time.perf_counter()
    results = {"ours": work["ours"]()}
    first_seconds = time.perf_counter() - begin
    peak = peak_bytes(jax.local_devices())
    results |= {name: function() for name, function in work.items() if name != "ours"}  # not counted: caches
    times = by_turns(work, repetitions)
    notes, ratios, figures = {"clips": str(len(clips))}, {}, {}
    if against_encodec:
        import torch

        pairs = zip(times["ours"], times["encodec"], strict=True)
        ratios["speed over the encodec package's"] = [[theirs / ours for ours, theirs in pairs]]
        notes["torch threads"] = str(torch.get_num_threads())
        if direction == "encode":
            figures["codes_equal"] = float(
                np.mean(np.concatenate(results["ours"]) == np.concatenate(results["encodec"]))
            )
    point = Point(
        settings={"codec": codec, "sha256": ours.sha256, "direction": direction, "seconds": seconds},
        label={"direction": direction},
        measures={
            name: Measure([one], {"audio_seconds": audio_seconds}, name == "ours") for name, one in times.items()
        },
        ratios=ratios,
        figures={"compile_seconds": first_seconds - median([times["ours"]]), "peak_bytes": peak, **figures},
        notes=notes,
    )
    packages = ["jax", "jaxlib", "flax", "numpy"] + ["torch", "encodec"] * against_encodec
    return point, environment(packages, jax.devices())


def _speech(seconds: float, sample_rate: int) -> list[np.ndarray]:
    """Bundled clips, drawn evenly over the corpus, up to about so many seconds: lengths vary as in real data."""
    from data_pipelines.corpora import open_corpus
    from ellav_jax.resampling import resample

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
