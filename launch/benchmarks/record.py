"""What a benchmark found, as one JSON file: every repetition, and where it was measured. Schema: docs/benchmarks.md."""

import dataclasses
import datetime as dt
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_json
from launch.benchmarks.statistics import Runs, median, median_interval, spread
from launch.source_tree import revision

FORMAT = "ellav-jax benchmark"
SCHEMA_VERSION = 1
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "GLIBC_TUNABLES", "OMP_NUM_THREADS", "NPROC")
"""Environment variables that change how fast things are."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """Something that was timed over and over.

    seconds: of each repetition, [K, N] by run. work: what a repetition does, by name (`launch/benchmarks/table.py` has the
    names that it shows as rates). ours: whether it is this project's work, and not an opponent's.
    """

    seconds: Runs
    work: dict[str, float]
    ours: bool = True


@dataclasses.dataclass(frozen=True)
class Point:
    """One combination of settings and what was found there.

    settings: all that decides what is measured. label: those by which the points of a record differ. ratios: opponent's
    seconds over ours for the same work, of each pair of turns, [K, N] (above 1: ours is faster). figures: single
    values; None where the machine does not tell. notes: what is no number.
    """

    settings: dict[str, Any]
    label: dict[str, Any]
    measures: dict[str, Measure]
    ratios: dict[str, Runs] = dataclasses.field(default_factory=dict)
    figures: dict[str, float | None] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Record:
    """A benchmark's points, the protocol that they were measured by and the machine that they were measured on."""

    benchmark: str
    protocol: dict[str, Any]
    environment: dict[str, Any]
    points: list[Point]

    def to_json(self) -> dict[str, Any]:
        """All of it, with medians, spreads and rates for who reads the file."""
        value = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        for point, written in zip(self.points, value["points"], strict=True):
            for name, measure in point.measures.items():
                seconds = median(measure.seconds)
                written["measures"][name] |= {
                    "median": seconds,
                    "spread": spread(measure.seconds),
                    "rates": {f"{work}_per_second": amount / seconds for work, amount in measure.work.items()},
                }
            written["ratios"] = {
                name: {"values": runs, **dataclasses.asdict(median_interval(runs))}
                for name, runs in point.ratios.items()
            }
        return value


def write_record(path: Path, record: Record) -> None:
    """Writes a record as JSON, atomically."""
    write_json(path, record.to_json())


def read_record(path: Path) -> Record:
    """Reads what `write_record` wrote. Raises InputError for another file or another version of the schema."""
    value = read_json(path, "benchmark")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(
            f"{path}: no benchmark of this project; expected a file that `ellav bench … --json FILE` wrote"
        )
    if value.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema version {value.get('schema_version')}, expected {SCHEMA_VERSION}; measure again with this "
            "version"
        )
    try:
        points = [
            Point(
                **{key: one[key] for key in ("settings", "label", "figures", "notes")},
                measures={
                    name: Measure(*(measure[key] for key in ("seconds", "work", "ours")))
                    for name, measure in one["measures"].items()
                },
                ratios={name: ratio["values"] for name, ratio in one["ratios"].items()},
            )
            for one in value["points"]
        ]
        return Record(value["benchmark"], value["protocol"], value["environment"], points)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the benchmark is incomplete ({error!r}); measure again") from None


def join_runs(points: Sequence[Point]) -> Point:
    """Several runs of one point as one: repetitions by run, peaks of memory the largest, other figures the median."""
    first = points[0]

    def joined(name: str) -> float | None:
        values = [one.figures[name] for one in points]
        if None in values:
            return None
        return max(values) if name.startswith("peak") else median([values])

    return dataclasses.replace(
        first,
        measures={
            name: dataclasses.replace(one, seconds=[run for point in points for run in point.measures[name].seconds])
            for name, one in first.measures.items()
        },
        ratios={name: [run for point in points for run in point.ratios[name]] for name in first.ratios},
        figures={name: joined(name) for name in first.figures},
    )


def environment(packages: Sequence[str], devices: Sequence[Any] = ()) -> dict[str, Any]:
    """The machine and what runs on it. packages: whose versions count, as far as they are there. devices: JAX's."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "platform": devices[0].platform if devices else None,
        "device": devices[0].device_kind if devices else None,
        "cpu": _cpu_model(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "versions": {"python": platform.python_version(), **_versions(packages)},
        "flags": {name: os.environ.get(name, "") for name in FLAGS},
        "revision": revision(),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
