"""`ellav bench data`: how fast rows are planned and read, how full they are, and what memory that takes."""

import multiprocessing
import os
import platform
import re
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipelines.packing import PackingPlan
from data_pipelines.synthetic import sample_lengths, write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.files import write_json
from ellav_jax.hybrid_sequence import LayoutConfig

Kind = Literal["compact", "paper", "nar"]
KINDS: tuple[Kind, ...] = ("compact", "paper", "nar")
"""The GAR's two layouts, and the NAR."""
_SYNTHETIC_UTTERANCES = 2000


def run(
    data: Path | None = None,
    utterances: int = 10_000_000,
    row_length: int = 4096,
    batch_rows: int = 8,
    batches: int = 500,
    json: Path | None = None,
) -> dict[str, Any]:
    """Plans rows of synthetic utterances, reads batches, prints two tables and returns (and writes to `json`) the figures.

    utterances: how many to plan rows for, their lengths shaped as LibriSpeech's (data_pipelines/synthetic.py). data: data
    set to read batches from; without one, 2,000 such utterances of random codes are written to a temporary folder. Each
    line of the tables is measured in a process of its own, so that its peak of memory is its own. Raises InputError.
    """
    for name, value in (("utterances", utterances), ("row_length", row_length), ("batch_rows", batch_rows)):
        if value < 1:
            raise InputError(f"bench data: {name} is {value}; expected 1 or more")
    if batches < 10:
        raise InputError(f"bench data: {batches} batches; expected 10 or more, the first tenth of them to warm up")
    plans = [_in_own_process(_plan, kind, utterances, row_length) for kind in KINDS]
    _print_plans(plans, utterances, row_length)
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            path = write_synthetic(Path(folder), _SYNTHETIC_UTTERANCES).path
        else:
            path = data
        loader = [_in_own_process(_load, kind, path, row_length, batch_rows, batches) for kind in KINDS]
    figures = {
        "utterances": utterances,
        "row_length": row_length,
        "batch_rows": batch_rows,
        "batches": batches,
        "data": None if data is None else str(data),
        "environment": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "versions": {package: metadata.version(package) for package in ("numpy", "grain", "array-record")},
        },
        "plan": plans,
        "loader": loader,
    }
    _print_loader(figures)
    if json is not None:
        write_json(json, figures)
    return figures


def _in_own_process(function: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _plan(kind: Kind, utterances: int, row_length: int) -> dict[str, Any]:
    phones_N, frames_N = sample_lengths(utterances)
    lengths_N = phones_N + frames_N if kind == "nar" else LayoutConfig(order=kind).num_inputs(phones_N, frames_N)
    del phones_N, frames_N
    begin = time.perf_counter()
    plan = PackingPlan(lengths_N, row_length, seed=0)
    planned = time.perf_counter()
    plan.row(0)
    return {
        "kind": kind,
        "rows": plan.rows_per_epoch,
        "real_share": plan.fill,
        "too_long": plan.too_long,
        "plan_seconds": planned - begin,
        "first_epoch_seconds": time.perf_counter() - planned,
        "peak_mib": _peak_mib(),
    }


def _load(kind: Kind, path: Path, row_length: int, batch_rows: int, batches: int) -> dict[str, Any]:
    # Planning has no need of these, nor of the memory that they bring.
    from data_pipelines.loader import Batches, DataConfig, gar_rows, nar_rows
    from data_pipelines.records import Dataset
    from ellav_jax.models.nar import NarConfig

    dataset = Dataset.open(path)
    split = "train" if "train" in dataset.splits else dataset.splits[0]
    config = DataConfig(row_length, batch_rows)
    if kind == "nar":
        rows = nar_rows(dataset, split, config, LayoutConfig(), NarConfig())
    else:
        rows = gar_rows(dataset, split, config, LayoutConfig(order=kind))
    source = Batches(rows)
    real = 0
    for step in range(batches):
        batch = next(source)
        if step < batches // 10:  # files are opened, buffers filled
            warm_mib, wall, cores = _peak_mib(), time.perf_counter(), time.process_time()
        else:
            real += int(np.count_nonzero(batch["segment_ids"]))
    wall, cores = time.perf_counter() - wall, time.process_time() - cores
    source.close()
    positions = (batches - batches // 10) * batch_rows * row_length
    return {
        "kind": kind,
        "positions_per_second": positions / wall,
        "positions_per_core_second": positions / cores,
        "cores_used": cores / wall,
        "real_share": real / positions,
        "peak_mib_after_a_tenth": warm_mib,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process that started this one held
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if platform.system() == "Darwin" else 1 << 10)


def _print_plans(plans: list[dict[str, Any]], utterances: int, row_length: int) -> None:
    table = Table("plan", "rows", "% real", "too long", "plan s", "first epoch s", "peak MiB")
    for one in plans:
        table.add_row(
            one["kind"],
            f"{one['rows']:,}",
            f"{100 * one['real_share']:.2f}",
            f"{one['too_long']:,}",
            f"{one['plan_seconds']:.2f}",
            f"{one['first_epoch_seconds']:.2f}",
            f"{one['peak_mib']:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(f"{utterances:,} utterances of synthetic lengths, rows of {row_length} positions", soft_wrap=True)


def _print_loader(figures: dict[str, Any]) -> None:
    table = Table("loader", "M pos/s", "M pos/s/core", "cores", "% real", "MiB at 1/10", "MiB at end")
    for one in figures["loader"]:
        table.add_row(
            one["kind"],
            f"{one['positions_per_second'] / 1e6:.2f}",
            f"{one['positions_per_core_second'] / 1e6:.2f}",
            f"{one['cores_used']:.2f}",
            f"{100 * one['real_share']:.2f}",
            f"{one['peak_mib_after_a_tenth']:.0f}",
            f"{one['peak_mib']:.0f}",
        )
    console = Console()
    console.print(table)
    environment = figures["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    source = figures["data"] or f"{_SYNTHETIC_UTTERANCES:,} synthetic utterances"
    console.print(
        f"{source}, {figures['batches']:,} batches of {figures['batch_rows']} rows of {figures['row_length']} positions; "
        f"{environment['cores']} cores ({environment['machine']}); {versions}. Padding counts as positions; MiB: the most "
        "memory held, after a tenth of the batches and at the end.",
        soft_wrap=True,
    )
