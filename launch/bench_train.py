"""`ellav bench train`: the speed of the training step and of the loop around it, alone or against PyTorch."""

import contextlib
import dataclasses
import datetime as dt
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from configs.experiment import Experiment, find_experiment
from data_pipelines.mixture import MixedRows
from data_pipelines.records import Dataset
from data_pipelines.synthetic import write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.files import write_json
from ellav_jax.flops import segment_lengths
from ellav_jax.hardware import device_peak, hardware_name
from ellav_jax.sharding import global_batch
from ellav_jax.training.loop import train
from ellav_jax.training.run import HostBatch, Run
from ellav_jax.training.step import TrainState
from launch.assemble import make_run, split_rows
from launch.cpu_devices import use_cores

_SYNTHETIC_UTTERANCES = 1000
_POOL = 4
"""Padded batches are made of the utterances of so many times the batches that are timed: sorting wants a choice."""


def run(
    experiment: str = "prompts_small.gar",
    data: Path | None = None,
    against: Literal["none", "torch"] = "none",
    steps: int = 5,
    blocks: int = 5,
    json: Path | None = None,
) -> dict[str, Any]:
    """Times the training step of an experiment and the loop around it, prints a table, returns (and writes) the figures.

    data: a data set; without one, synthetic utterances of LibriSpeech's lengths (data_pipelines/synthetic.py). The loop
    runs as `ellav train` does, without evaluation and checkpoints, for `steps` steps; then the bare step does the same
    batches again, lying on the devices; so on by turns, `blocks` times. Ratios are medians over the pairs.

    against torch: the plain PyTorch twin (ellav_jax/export/torch_modules.py; eager, float32, all cores, fused or foreach
    AdamW, one attention call for each utterance or one dense mask, whatever is faster), by turns with ours. First on the
    same packed batches; then on padded ones: the same utterances, sorted by length, as many positions a batch. Its
    batches lie ready as tensors. Each turn begins with a step that isn't counted. Threads that wait for each other lose
    more than others where the machine is busy, and PyTorch's do: ratios want a machine that does nothing else, so the
    share that other processes took is printed.
    Raises InputError.
    """
    if steps < 1 or blocks < 1:
        raise InputError(f"bench train: {steps} steps x {blocks} blocks; expected 1 or more of each")
    chosen = find_experiment(experiment)
    # How parameters begin changes no time, and synthetic codes have no codebooks.
    chosen = dataclasses.replace(chosen, model=dataclasses.replace(chosen.model, codebook_init=False))
    use_cores(chosen.mesh, chosen.data.batch_rows // chosen.train.accumulate)
    if against == "torch":
        _check_comparable(chosen)
    with tempfile.TemporaryDirectory() as folder, _opened(data, Path(folder)) as dataset, _others() as others:
        rows = MixedRows([split_rows(chosen, dataset, "train")])
        made = make_run(chosen, [dataset], rows)
        figures = {
            "experiment": experiment,
            "data": None if data is None else str(data),
            "steps": steps,
            "blocks": blocks,
            "environment": _environment(against),
            **_measure_loop(chosen, made, Path(folder) / "work", steps, blocks),
        }
        if against == "torch":
            figures["torch"] = _measure_torch(chosen, made, len(dataset.frontend.phones), steps, blocks)
    figures["environment"] |= others
    _print(figures)
    if json is not None:
        write_json(json, figures)
    return figures


@contextlib.contextmanager
def _opened(data: Path | None, folder: Path) -> Iterator[Dataset]:
    yield write_synthetic(folder / "data", _SYNTHETIC_UTTERANCES) if data is None else Dataset.open(data)


def _check_comparable(experiment: Experiment) -> None:
    dtype = experiment.model.transformer.dtype
    if dtype != "float32" or jax.default_backend() != "cpu" or jax.process_count() > 1:
        raise InputError(
            f"bench train --against torch compares float32 in one process on a CPU; the experiment has {dtype}, and there "
            f"are {jax.process_count()} x {jax.default_backend()}"
        )


@contextlib.contextmanager
def _others() -> Iterator[dict[str, float]]:
    """Fills in `others_share` at the end: the share of the cores' time that other processes took, where Linux tells."""
    shares: dict[str, float] = {}
    stat = Path("/proc/stat")
    if not stat.exists():
        yield shares
        return
    begin, own, busy = time.perf_counter(), time.process_time(), _busy_seconds(stat)
    yield shares
    wall = time.perf_counter() - begin
    others = _busy_seconds(stat) - busy - (time.process_time() - own)
    shares["others_share"] = max(0.0, others / (wall * os.cpu_count()))


def _busy_seconds(stat: Path) -> float:
    """Seconds that all cores together have worked since the machine started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class _Enough(Exception):
    """Ends the loop where everything is measured."""


class _ByTurns:
    """A training step that times the loop which calls it, and by turns itself without the loop."""

    def __init__(self, run: Run, steps: int, blocks: int):
        self._run, self._steps, self._blocks = run, steps, blocks
        self._batches: list[dict[str, jax.Array]] = []
        self._since: float | None = None
        self.first_seconds = 0.0
        self.loop: list[float] = []
        self.bare: list[float] = []
        self.seen: list[dict[str, jax.Array]] = []

    def train(
        self, state: TrainState, batch: dict[str, jax.Array], seed: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """The step; at the end of each block of the loop's it does the block's batches again."""
        begin = time.perf_counter()
        state, metrics = self._run.steps.train(state, batch, seed)
        if self._since is None:
            jax.block_until_ready(state)
            self.first_seconds = time.perf_counter() - begin
            self._since = time.perf_counter()
            return state, metrics
        self._batches.append(batch)
        if len(self._batches) == self._steps:
            jax.block_until_ready(state)
            self.loop.append((time.perf_counter() - self._since) / self._steps)
            begin = time.perf_counter()
            for one in self._batches:
                state, metrics = self._run.steps.train(state, one, seed)
            jax.block_until_ready(state)
            self.bare.append((time.perf_counter() - begin) / self._steps)
            self.seen += self._batches
            self._batches = []
            if len(self.bare) == self._blocks:
                raise _Enough
            self._since = time.perf_counter()
        return state, metrics


def _measure_loop(experiment: Experiment, run: Run, workdir: Path, steps: int, blocks: int) -> dict[str, Any]:
    turns = _ByTurns(run, steps, blocks)
    # Each block has its log line; nothing else that a run does every so often comes about.
    config = dataclasses.replace(
        experiment.train,
        steps=1 << 30,
        log_every=min(experiment.train.log_every, steps),
        evaluate_every=1 << 30,
        checkpoint_every=1 << 30,
    )
    workdir.mkdir()
    quiet = dataclasses.replace(run, steps=dataclasses.replace(run.steps, train=turns.train), say=lambda line: None)
    with contextlib.suppress(_Enough):
        train(config, quiet, workdir)
    content = _content([jax.device_get(batch) for batch in turns.seen], run)
    loop, bare = statistics.median(turns.loop), statistics.median(turns.bare)
    devices = run.batch_sharding.mesh.devices
    flops = content["flops"] / loop
    peak = device_peak(devices.flat[0].device_kind)
    return {
        "first_step_seconds": turns.first_seconds,
        "compile_seconds": turns.first_seconds - bare,
        "loop_seconds_per_step": turns.loop,
        "bare_seconds_per_step": turns.bare,
        "seconds_per_step": loop,
        "loop_overhead": statistics.median(a / b for a, b in zip(turns.loop, turns.bare, strict=True)) - 1,
        "real_share": content["real"] / content["positions"],
        "positions_per_second": content["positions"] / loop,
        "audio_seconds_per_second": content["audio_seconds"] / loop,
        "tflops": flops / 1e12,
        "tflops_per_device": flops / 1e12 / devices.size,
        "mfu": None if peak is None else flops / devices.size / peak,
    }


def _content(batches: Sequence[HostBatch], run: Run) -> dict[str, float]:
    """What a batch holds, on the average of these."""
    lengths = [segment_lengths(batch["segment_ids"]) for batch in batches]
    targets = [int(batch["loss_mask"].sum()) for batch in batches]
    return {
        "positions": float(np.mean([batch["segment_ids"].size for batch in batches])),
        "real": float(np.mean([one.sum() for one in lengths])),
        "audio_seconds": float(np.mean([run.frames(batch) for batch in batches])) / run.frame_rate,
        "flops": float(np.mean([run.flops(one, number) for one, number in zip(lengths, targets, strict=True)])),
    }


def _measure_torch(experiment: Experiment, run: Run, num_phones: int, steps: int, blocks: int) -> dict[str, Any]:
    # torch is an extra of its own.
    try:
        from launch.bench_twin import Twin, pad_sorted, timed
    except ModuleNotFoundError as error:
        raise InputError(f"bench train --against torch wants {error.name}: pip install 'ellav-jax[torch]'") from None

    number = steps * blocks
    with contextlib.closing(run.batches(0)) as source:
        pool = [next(source) for _ in range(_POOL * number)]
    packed = pool[::_POOL]
    by_length = pad_sorted(pool, experiment.kind, packed[0]["segment_ids"].size)
    # Evenly over all lengths, and short and long ones in each block.
    places = np.linspace(0, len(by_length) - 1, number).round().astype(int)
    padded = [by_length[place] for place in np.random.default_rng(0).permutation(places)]

    state = run.steps.init(jax.random.key(experiment.train.seed))
    twin = Twin(experiment, num_phones, jax.device_get(state["params"]))
    twin.tune(packed[0])
    resident = [global_batch(batch, run.batch_sharding) for batch in packed]
    twins = {"packed": [twin.packed(batch) for batch in packed], "padded": [twin.padded(batch) for batch in padded]}
    seed = np.uint32(experiment.train.seed)

    def ours(part: slice) -> None:
        nonlocal state
        for batch in resident[part]:
            state, _ = run.steps.train(state, batch, seed)
        jax.block_until_ready(state)

    def theirs(kind: str, part: slice) -> None:
        for batch in twins[kind][part]:
            twin.step(batch)

    work = {"ours": ours, "packed": partial(theirs, "packed"), "padded": partial(theirs, "padded")}
    for function in work.values():  # not counted: compilation, caches
        function(slice(0, steps))
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for first in range(0, number, steps):
        for name, function in work.items():
            function(slice(first, first + 1))  # not counted: the other's threads go to sleep, its memory is handed back
            seconds[name].append(timed(partial(function, slice(first, first + steps))) / steps)
    content = {"ours": _content(packed, run), "packed": _content(packed, run), "padded": _content(padded, run)}
    rates = {
        what: {name: [content[name][key] / one for one in times] for name, times in seconds.items()}
        for what, key in (
            ("positions_per_second", "positions"),
            ("audio_seconds_per_second", "audio_seconds"),
            ("flops", "flops"),
        )
    }
    return {
        "choice": twin.choice,
        "seconds_per_step": seconds,
        "real_share": {name: one["real"] / one["positions"] for name, one in content.items()},
        **{rate: {name: statistics.median(each) for name, each in rates[rate].items()} for rate in _RATES},
        "tflops": {name: statistics.median(each) / 1e12 for name, each in rates["flops"].items()},
        "ratio_packed": _median_ratio(rates["positions_per_second"], "packed"),
        "ratio_padded": _median_ratio(rates["audio_seconds_per_second"], "padded"),
    }


def _median_ratio(rates: dict[str, list[float]], opponent: str) -> float:
    return statistics.median(ours / theirs for ours, theirs in zip(rates["ours"], rates[opponent], strict=True))


def _environment(against: str) -> dict[str, Any]:
    packages = ["jax", "jaxlib", "flax"] + (["torch"] if against == "torch" else [])
    return {
        "date": dt.date.today().isoformat(),
        "hardware": hardware_name(jax.devices()),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "versions": {package: metadata.version(package) for package in packages},
    }


_RATES = ("positions_per_second", "audio_seconds_per_second")
_ATTENTION = {"calls": "an attention call for each utterance", "mask": "one dense attention mask"}


def _print(figures: dict[str, Any]) -> None:
    table = Table("", "ms/step", "pos/s", "% real", "audio-s/s", "TFLOP/s")
    for name in ("loop", "bare"):
        seconds = statistics.median(figures[f"{name}_seconds_per_step"])
        faster = figures["seconds_per_step"] / seconds
        rates = [faster * figures[rate] for rate in _RATES]
        _add_row(table, f"ours, {name}", seconds, rates, figures["real_share"], faster * figures["tflops"])
    torch = figures.get("torch")
    if torch is not None:
        for name, title in (("ours", "ours, packed"), ("packed", "torch, packed"), ("padded", "torch, padded")):
            seconds = statistics.median(torch["seconds_per_step"][name])
            rates = [torch[rate][name] for rate in _RATES]
            _add_row(table, title, seconds, rates, torch["real_share"][name], torch["tflops"][name])
    console = Console()
    console.print(table)
    environment = figures["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    data = figures["data"] or f"{_SYNTHETIC_UTTERANCES:,} synthetic utterances"
    console.print(
        f"{figures['experiment']} on {data}; {figures['blocks']} blocks of {figures['steps']} steps, by turns; "
        f"{environment['hardware']}, {environment['cores']} cores ({environment['machine']}); {versions}; "
        f"{environment['date']}",
        soft_wrap=True,
    )
    share = environment.get("others_share")
    others = "" if share is None else f"; other processes took {share:.0%} of the cores"
    mfu = "n/a" if figures["mfu"] is None else f"{figures['mfu']:.1%}"
    console.print(
        f"compilation {figures['compile_seconds']:.1f} s; the loop: MFU {mfu}, {figures['loop_overhead']:+.1%} over its "
        f"bare steps{others}",
        soft_wrap=True,
    )
    if torch is not None:
        choice = torch["choice"]
        console.print(
            f"against torch (AdamW {choice['optimizer']}; packed: {_ATTENTION[choice['attention']]}): on the same packed "
            f"batches {torch['ratio_packed']:.2f} x its positions/s; on padded batches, "
            f"{torch['real_share']['padded']:.1%} real, {torch['ratio_padded']:.2f} x its audio-s/s",
            soft_wrap=True,
        )


def _add_row(table: Table, name: str, seconds: float, rates: list[float], real_share: float, tflops: float) -> None:
    positions, audio = rates
    table.add_row(
        name, f"{1e3 * seconds:.1f}", f"{positions:,.0f}", f"{real_share:.1%}", f"{audio:.1f}", f"{tflops:.3g}"
    )
