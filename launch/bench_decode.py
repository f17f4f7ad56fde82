"""`ellav bench decode`: how fast the GAR decodes, alone or against PyTorch."""

import dataclasses
import datetime as dt
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from configs.experiment import Experiment, find_experiment
from configs.trained import define_model
from ellav_jax.errors import InputError
from ellav_jax.files import write_json
from ellav_jax.hardware import hardware_name
from ellav_jax.hybrid_sequence import decoding_prefix
from ellav_jax.synthesis.decode import GarRequest, decode_gar
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.vocabulary import Vocabulary

FRAME_RATE = 75
"""Of EnCodec at 24 kHz."""
NUM_PHONES = 40
"""Of the inventory."""
PROMPT_SECONDS = 3
PHONES_A_SECOND = 12
SHORTEST, LONGEST = 4, 9
"""Frames of a phone: 6.25 are the average at 12 phones and 75 frames a second."""


def run(
    experiment: str = "prompts_small.gar",
    batch: tuple[int, ...] = (1, 8),
    seconds: float = 5.0,
    repetitions: int = 5,
    against: Literal["none", "torch"] = "none",
    json: Path | None = None,
) -> dict[str, Any]:
    """Decodes layer 1 of `seconds` of speech behind a prompt of 3 s, greedily, for each size of batch; prints a table,
    returns (and writes) the figures.

    Weights are random and the durations of all phones are given, so that everything that is compared makes the same
    calls. Prefix included; one pass that compiles is left out.

    against torch: the plain twin (ellav_jax/export/torch_modules.py; eager, same weights) and, for the llama preset,
    `transformers`' LlamaForCausalLM with a static cache, each with one thread and with all, by turns with ours; the ratio
    is that to the fastest of them. float32. RTF: the real-time factor of each row. Raises InputError.
    """
    if seconds <= 0 or repetitions < 1 or min(batch, default=0) < 1:
        raise InputError(
            f"bench decode: {seconds} s, {repetitions} repetitions, batch {batch}; expected above 0 of each"
        )
    chosen = find_experiment(experiment)
    if chosen.kind != "gar":
        raise InputError(f"bench decode: {experiment} is no GAR; it is what decodes call by call")
    layout = chosen.layout
    if against == "torch" and (not layout.interleaved or layout.eop_input or layout.local_advance):
        raise InputError("bench decode --against torch compares the compact layout without local advance")
    transformer = dataclasses.replace(chosen.model.transformer, dtype="float32", dropout=0.0)
    model = dataclasses.replace(chosen.model, codebook_init=False, transformer=transformer)
    chosen = dataclasses.replace(chosen, model=model)
    rows = [_measure(chosen, size, seconds, repetitions, against) for size in batch]
    figures = {
        "experiment": experiment,
        "seconds": seconds,
        "repetitions": repetitions,
        "environment": _environment(against),
        "rows": rows,
    }
    _print(figures)
    if json is not None:
        write_json(json, figures)
    return figures


def _measure(experiment: Experiment, batch: int, seconds: float, repetitions: int, against: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    layout, vocabulary = experiment.layout, Vocabulary(NUM_PHONES)
    phones_N = rng.integers(0, NUM_PHONES, max(1, round(PHONES_A_SECOND * seconds)))
    durations_N = rng.integers(SHORTEST, LONGEST, len(phones_N))
    prompt_P = rng.integers(0, NUM_PHONES, PROMPT_SECONDS * PHONES_A_SECOND)
    frames = PROMPT_SECONDS * FRAME_RATE
    prompt_durations = np.diff(np.arange(len(prompt_P) + 1) * frames // len(prompt_P))
    prompt_codes = rng.integers(0, 1024, frames)
    prefix, _ = decoding_prefix(prompt_P, prompt_durations, prompt_codes, phones_N, layout, vocabulary)
    definition = define_model(experiment, NUM_PHONES)
    params = jax.jit(definition.init)(jax.random.key(0))
    said, given = (phones_N, durations_N) if layout.interleaved else (phones_N[:1], durations_N.sum(keepdims=True))
    given = given.astype(np.int32)
    given[-1] += layout.local_advance

    def repeated(row: np.ndarray) -> np.ndarray:
        return np.tile(row.astype(np.int32), (batch, 1))

    request = GarRequest(
        prefix_BxS=repeated(prefix),
        prefix_length_B=np.full(batch, len(prefix), np.int32),
        phones_BxN=repeated(vocabulary.phone_tokens(said)),
        num_phones_B=np.full(batch, len(said), np.int32),
        floor_BxN=repeated(given),
        cap_BxN=repeated(given),
        started_B=np.zeros(batch, np.int32),
        keys_B=jax.random.split(jax.random.key(0), batch),
        sampling=SamplingConfig(temperature=0.0).settings(),
    )
    most = int(given.sum()) + 1

    def ours() -> np.ndarray:
        result = decode_gar(definition, params, request, eop_input=layout.eop_input, max_frames=most)
        return np.asarray(result.codes_BxF[:, : most - 1])

    calls = int(decode_gar(definition, params, request, eop_input=layout.eop_input, max_frames=most).calls)
    work: dict[str, Callable[[], np.ndarray]] = {"ours": ours}
    if against == "torch":
        try:
            from launch.bench_decode_twin import opponents
        except ModuleNotFoundError as error:
            raise InputError(
                f"bench decode --against torch wants {error.name}: pip install 'ellav-jax[torch]'"
            ) from None
        schedule = _schedule(vocabulary.phone_tokens(phones_N), durations_N)
        slots = len(prefix) + len(schedule) + 1
        work |= opponents(
            experiment.model.transformer,
            jax.device_get(params),
            NUM_PHONES,
            repeated(prefix),
            repeated(schedule),
            slots,
        )
    codes = {name: function() for name, function in work.items()}  # not counted: compilation, caches
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, function in work.items():
            begin = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - begin)
    audio_seconds = batch * durations_N.sum() / FRAME_RATE
    figures: dict[str, Any] = {
        "batch": batch,
        "calls": calls,
        "audio_seconds": float(audio_seconds),
        "seconds": times,
        "audio_seconds_per_second": {name: audio_seconds / statistics.median(one) for name, one in times.items()},
    }
    if against == "torch":
        fastest = min((name for name in work if name != "ours"), key=lambda name: statistics.median(times[name]))
        figures |= {
            "fastest": fastest,
            "ratio": statistics.median(b / a for a, b in zip(times["ours"], times[fastest], strict=True)),
            "codes_equal": min(
                float(np.mean(codes["ours"] == found)) for name, found in codes.items() if name.startswith("twin")
            ),
        }
    return figures


def _schedule(tokens_N: np.ndarray, durations_N: np.ndarray) -> np.ndarray:
    """Token fed at each call behind the prefix, which ends with the first phone: −1 for the code chosen there."""
    parts = [np.append(np.full(frames, -1), token) for frames, token in zip(durations_N, tokens_N[1:], strict=False)]
    return np.concatenate([*parts, np.full(durations_N[-1], -1)])


def _environment(against: str) -> dict[str, Any]:
    packages = ["jax", "jaxlib", "flax"] + (["torch", "transformers"] if against == "torch" else [])
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": dt.date.today().isoformat(),
        "hardware": hardware_name(jax.devices()),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def _print(figures: dict[str, Any]) -> None:
    table = Table("batch", "", "calls", "ms/call", "s", "spread", "audio-s/s", "RTF")
    for row in figures["rows"]:
        for name, times in row["seconds"].items():
            median, rate = statistics.median(times), row["audio_seconds_per_second"][name]
            table.add_row(
                str(row["batch"]),
                name,
                f"{row['calls']:,}",
                f"{1000 * median / row['calls']:.2f}",
                f"{median:.2f}",
                f"{min(times):.2f}…{max(times):.2f}",
                f"{rate:.1f}",
                f"{row['batch'] / rate:.3f}",
            )
    console = Console()
    console.print(table)
    environment = figures["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    console.print(
        f"{figures['experiment']}, {figures['repetitions']} repetitions by turns; {environment['hardware']}, "
        f"{environment['cores']} cores ({environment['machine']}); {versions}; {environment['date']}",
        soft_wrap=True,
    )
    for row in figures["rows"]:
        if "ratio" in row:
            console.print(
                f"batch {row['batch']}: {row['ratio']:.2f} x the audio-s/s of PyTorch's fastest ({row['fastest']}); "
                f"{row['codes_equal']:.1%} of the twin's codes equal",
                soft_wrap=True,
            )
