"""`ellav bench scaling`: what was measured on growing numbers of devices beside what is estimated for pods, told apart."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_bytes
from launch.benchmarks.record import Point, Record, read_record
from launch.benchmarks.scaling_figure import FIGURE, Estimated, Line, Measured, draw_scaling
from launch.benchmarks.statistics import Interval, median_interval
from launch.benchmarks.table import UNKNOWN
from launch.marked_document import around, markdown_table, write_between


def run(
    records: Annotated[Positional[tuple[Path, ...]], arg(metavar="RECORD.json")],
    plan: Annotated[tuple[Path, ...], arg(metavar="PLAN.json")] = (),
    document: Path | None = None,
) -> None:
    """Makes Markdown tables of files of `ellav bench train --devices` and of `ellav plan --json`, and prints them.

    document: writes them between the marks <!-- tables --> and <!-- end of tables --> of this file instead, and the figure
    beside it, with the ending .svg.
    Weak scaling keeps all where twice the devices do twice the positions a second. Virtual devices share the cores, so
    there all is kept where the positions a second stay what one device does: what is lost are the overheads of dividing
    the work. Raises InputError.
    """
    lines = [line_of(path, read_record(path)) for path in records]
    estimates = [one for path in plan for one in estimates_of(path)]
    tables = [markdown_table(_MEASURED, [_measured_cells(line, one) for line in lines for one in line.points])]
    if estimates:
        tables.append(markdown_table(_ESTIMATED, [_estimated_cells(one) for one in estimates]))
    if document is None:
        print("\n\n".join(tables))
    else:
        _write_document(document, tables, lines, estimates)


def _write_document(path: Path, tables: Sequence[str], lines: Sequence[Line], estimates: Sequence[Estimated]) -> None:
    around(path)  # it is to have marks
    drawing = path.with_suffix(".svg")
    write_bytes(drawing, draw_scaling(lines, estimates).encode())
    picture = f"![{FIGURE}]({drawing.name})"
    write_between(path, [picture, *tables])


def line_of(path: Path, record: Record) -> Line:
    """The scaling that a record shows. Raises InputError where it is none."""
    if record.benchmark != "train" or "scaling" not in record.protocol:
        raise InputError(f"{path}: expected a file of `ellav bench train --devices 1,2,4 --json FILE`")
    points = sorted(record.points, key=lambda point: point.settings["devices"])
    counts = [point.settings["devices"] for point in points]
    if len(set(counts)) < len(counts):
        raise InputError(f"{path}: several points have the same number of devices; sweep over --devices alone")
    shared = record.environment["platform"] == "cpu"
    rates = [_rate(point) for point in points]
    measured = []
    for point, rate in zip(points, rates, strict=True):
        ideal = rates[0].value * (1 if shared else point.settings["devices"] / counts[0])
        kept = Interval(*(value / ideal for value in dataclasses.astuple(rate)))
        settings = point.settings
        rows = settings["data"]["batch_rows"]
        measured.append(Measured(settings["devices"], settings["processes"], rows, rate, kept, point))
    processes = measured[-1].processes
    name = points[0].settings["experiment"] + (f", {processes} processes" if processes > 1 else "")
    return Line(name, record.protocol["scaling"], shared, measured)


def _rate(point: Point) -> Interval:
    """Positions a second of the loop."""
    loop = point.measures["loop"]
    seconds = median_interval(loop.seconds)
    return Interval(*(loop.work["positions"] / one for one in (seconds.value, seconds.high, seconds.low)))


def estimates_of(path: Path) -> list[Estimated]:
    """Points of a file that `ellav plan --json` wrote, as far as they fit. Raises InputError for another file."""
    value = read_json(path, "plan")
    try:
        return [_estimated(one) for one in value["points"] if one["estimate"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no file of `ellav plan … --json FILE` ({error!r})") from None


def _estimated(one: dict[str, Any]) -> Estimated:
    work, estimate = one["workload"], one["estimate"]
    by_cost = estimate["seconds_by_cost"]
    return Estimated(
        f"{one['topology']}, {work['rows']:,} rows, remat {work['transformer']['remat']}",
        one["devices"],
        f"{work['data']} × {work['fsdp']} × {work['tensor']}",
        work["rows"],
        one["memory"]["needed"],
        estimate["seconds"],
        one["roofline"]["mfu"],
        estimate["mfu"],
        by_cost and estimate["mfu"] * estimate["seconds"] / by_cost,
    )


_MEASURED = (
    "measured",
    "scaling",
    "devices",
    "processes",
    "rows",
    "positions a second",
    "kept",
    "peak MiB a process",
    "others' CPU",
)
_ESTIMATED = (
    "compiled, not run",
    "devices",
    "mesh",
    "MiB a device (compiled)",
    "ms a step (estimate)",
    "MFU, roofline",
    "MFU, cycles",
    "MFU, cost analysis",
)


def _measured_cells(line: Line, one: Measured) -> list[str]:
    figures = one.point.figures
    peak, others = figures["peak_bytes"], figures["others_share"]
    return [
        line.name,
        line.scaling,
        str(one.devices),
        str(one.processes),
        str(one.rows),
        f"{one.rate.value:,.0f} [{one.rate.low:,.0f}, {one.rate.high:,.0f}]",
        f"{one.kept.value:.1%}",
        UNKNOWN if peak is None else f"{peak / 2**20:,.0f}",
        UNKNOWN if others is None else f"{others:.0%}",
    ]


def _estimated_cells(one: Estimated) -> list[str]:
    shares = [one.roofline, one.cycles, one.cost_analysis]
    return [
        one.name,
        str(one.devices),
        one.mesh,
        f"{one.peak_bytes / 2**20:,.0f}",
        f"{1e3 * one.seconds:.1f}",
        *(UNKNOWN if share is None else f"{share:.1%}" for share in shares),
    ]
