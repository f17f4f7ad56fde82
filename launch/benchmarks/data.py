"""`ellav bench data`: how fast rows are planned and read, how full they are, and what memory that takes."""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import arg

from data_pipelines.packing import PackingPlan
from data_pipelines.synthetic import sample_lengths, write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig
from launch.benchmarks.options import whole_numbers
from launch.benchmarks.process import Found, Task, measure, peak_resident_bytes
from launch.benchmarks.record import Measure, Point, Record, environment
from launch.benchmarks.table import report

Kind = Literal["compact", "paper", "nar"]
KINDS: tuple[Kind, ...] = ("compact", "paper", "nar")
"""The GAR's two layouts, and the NAR."""
PACKAGES = ("numpy", "grain", "array-record")
SYNTHETIC_UTTERANCES = 2000


def run(
    data: Path | None = None,
    utterances: int = 10_000_000,
    row_length: Annotated[str, arg(metavar="POSITIONS")] = "4096",
    batch: Annotated[str, arg(metavar="ROWS")] = "8",
    batches: int = 500,
    repetitions: int = 5,
    runs: int = 1,
    json: Path | None = None,
) -> Record:
    """Plans rows of synthetic utterances, reads batches, prints two tables and returns (and writes to `json`) the record.

    utterances: how many to plan rows for, their lengths shaped as LibriSpeech's (data_pipelines/synthetic.py). data: data
    set to read batches from; without one, 2,000 such utterances of random codes are written to a temporary folder.
    row_length, batch: positions of a row and rows of a batch, with commas between several. batches: read in as many parts
    as there are repetitions, behind a tenth of them that is not counted. runs: fresh processes for each line of the tables,
    so that its peak of memory is its own. Padding counts as positions. Raises InputError.
    """
    for name, value in (("utterances", utterances), ("repetitions", repetitions), ("runs", runs)):
        if value < 1:
            raise InputError(f"bench data: {name} is {value}; expected 1 or more")
    if batches < 2 * repetitions + 10:
        raise InputError(
            f"bench data: {batches} batches; expected {2 * repetitions + 10} or more, the first tenth of them to warm up"
        )
    lengths = whole_numbers("row-length", row_length)
    sizes = whole_numbers("batch", batch)
    with tempfile.TemporaryDirectory() as folder:
        path = write_synthetic(Path(folder), SYNTHETIC_UTTERANCES).path if data is None else data
        tasks = [
            Task(f"plan {kind} {length}", measure_plan, (kind, utterances, length, repetitions))
            for length in lengths
            for kind in KINDS
        ] + [
            Task(f"load {kind} {size} x {length}", measure_load, (kind, path, length, size, batches, repetitions))
            for length in lengths
            for size in sizes
            for kind in KINDS
        ]
        found, environment = measure(tasks, runs)
    protocol = {
        "utterances": f"{utterances:,}",
        "batches": batches,
        "repetitions": repetitions,
        "runs": runs,
        "data": f"{SYNTHETIC_UTTERANCES:,} synthetic utterances" if data is None else str(data),
    }
    return report(Record("data", protocol, environment, found), json)


def measure_plan(kind: Kind, utterances: int, row_length: int, repetitions: int) -> Found:
    """Plans rows in this process, `repetitions` times, each with the first row of an epoch, which permutes all of it."""
    phones_N, frames_N = sample_lengths(utterances)
    lengths_N = phones_N + frames_N if kind == "nar" else LayoutConfig(order=kind).num_inputs(phones_N, frames_N)
    del phones_N, frames_N
    seconds: dict[str, list[float]] = {"plan": [], "first epoch": []}
    plan = None
    for _ in range(repetitions):
        del plan  # before the next one is made
        begin = time.perf_counter()
        plan = PackingPlan(lengths_N, row_length, seed=0)
        planned = time.perf_counter()
        plan.row(0)
        seconds["first epoch"].append(time.perf_counter() - planned)
        seconds["plan"].append(planned - begin)
    label = {"plan": kind, "row_length": row_length}
    point = Point(
        settings=label | {"utterances": utterances},
        label=label,
        measures={name: Measure([times], {"utterances": float(utterances)}) for name, times in seconds.items()},
        figures={
            "rows": float(plan.rows_per_epoch),
            "too_long": float(plan.too_long),
            "real_share": plan.fill,
            "peak_bytes": peak_resident_bytes(),
        },
    )
    return point, environment(PACKAGES)


def measure_load(kind: Kind, path: Path, row_length: int, batch_rows: int, batches: int, repetitions: int) -> Found:
    """Reads batches in this process: a tenth of them to warm up, the others in `repetitions` equal parts."""
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
    for _ in range(batches // 10):  # files are opened, buffers filled
        next(source)
    part = (batches - batches // 10) // repetitions
    warm_bytes, cores, real = peak_resident_bytes(), time.process_time(), 0
    seconds: list[float] = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        for _ in range(part):
            real += int(np.count_nonzero(next(source)["segment_ids"]))
        seconds.append(time.perf_counter() - begin)
    cores = time.process_time() - cores
    source.close()
    positions = float(part * batch_rows * row_length)
    label = {"load": kind, "row_length": row_length, "batch": batch_rows}
    point = Point(
        settings=label,
        label=label,
        measures={"batches": Measure([seconds], {"positions": positions})},
        figures={
            "positions_per_core_second": repetitions * positions / cores,
            "cores_used": cores / sum(seconds),
            "real_share": real / (repetitions * positions),
            "peak_bytes_warm": warm_bytes,
            "peak_bytes": peak_resident_bytes(),
        },
    )
    return point, environment(PACKAGES)
