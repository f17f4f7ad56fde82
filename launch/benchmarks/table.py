"""What the benchmarks print: their points as tables, the ratios to opponents, the protocol and the machine as lines."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from launch.benchmarks.record import Measure, Point, Record, write_record
from launch.benchmarks.statistics import LEVEL, median, median_interval, spread

# Name of a measure's work → title of its column, and amount and seconds → cell.
RATES: dict[str, tuple[str, Callable[[float, float], str]]] = {
    "calls": ("ms/call", lambda amount, seconds: f"{1e3 * seconds / amount:.2f}"),
    "utterances": ("M utt/s", lambda amount, seconds: f"{amount / seconds / 1e6:.2f}"),
    "positions": ("pos/s", lambda amount, seconds: f"{amount / seconds:,.0f}"),
    "audio_seconds": ("audio-s/s", lambda amount, seconds: f"{amount / seconds:,.1f}"),
    "row_audio_seconds": ("RTF", lambda amount, seconds: f"{seconds / amount:.3f}"),
    "model_flops": ("TFLOP/s", lambda amount, seconds: f"{amount / seconds / 1e12:.3g}"),
}
MFU = "MFU"
# Name of a figure → title of its column, and value → cell.
FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "rows": ("rows", "{:,.0f}".format),
    "too_long": ("too long", "{:,.0f}".format),
    "real_share": ("real", "{:.2%}".format),
    "real_share_padded": ("real, padded", "{:.2%}".format),
    "cores_used": ("cores used", "{:.2f}".format),
    "positions_per_core_second": ("pos/s/core", "{:,.0f}".format),
    "compile_seconds": ("compile s", "{:.1f}".format),
    "peak_bytes_warm": ("MiB at 1/10", lambda value: f"{value / 2**20:,.0f}"),
    "peak_bytes": ("peak MiB", lambda value: f"{value / 2**20:,.0f}"),
    "codes_equal": ("codes equal", "{:.3%}".format),
    "others_share": ("others' CPU", "{:.0%}".format),
}
UNKNOWN = "–"
_WIDTH = 180


def report(record: Record, json: Path | None) -> Record:
    """Prints a record, writes it where a file is given, and returns it."""
    print_record(record)
    if json is not None:
        write_record(json, record)
    return record


def print_record(record: Record) -> None:
    """Prints a table of all points (one for each kind of them), ratios, protocol and machine."""
    console = wide_console()
    for _, points in groupby(record.points, key=lambda point: (set(point.label), set(point.figures))):
        console.print(_table(list(points)))
    for point in record.points:
        for line in _ratio_lines(point):
            console.print(line, soft_wrap=True, markup=False)
    for line in (_protocol_line(record), describe_environment(record.environment)):
        console.print(line, soft_wrap=True, markup=False)


def wide_console() -> Console:
    """A console that cuts no cell off: a line that a narrow terminal can't hold goes on in its next one."""
    return Console(highlight=False, width=max(Console().width, _WIDTH))


def label_of(point: Point) -> str:
    """A point among those of its record, in words."""
    return " ".join(f"{name}={value}" for name, value in point.label.items()) or "all"


def _table(points: Sequence[Point]) -> Table:
    axes = list(points[0].label)
    measures = [measure for point in points for measure in point.measures.values()]
    rates = [name for name in RATES if any(name in one.work for one in measures)]
    figures = [name for name in FIGURES if name in points[0].figures]
    has_mfu = "peak_flops" in points[0].figures
    table = Table(*axes, "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("median ms", "spread"):
        table.add_column(title, justify="right")
    for title in [RATES[name][0] for name in rates] + [MFU] * has_mfu + [FIGURES[name][0] for name in figures]:
        table.add_column(title, justify="right")
    for point in points:
        for number, (name, measure) in enumerate(point.measures.items()):
            seconds = median(measure.seconds)
            cells = [str(value) if number == 0 else "" for value in point.label.values()]
            cells += [name, f"{1e3 * seconds:,.1f}", f"{spread(measure.seconds):.1%}"]
            cells += [RATES[rate][1](measure.work[rate], seconds) if rate in measure.work else "" for rate in rates]
            if has_mfu:
                cells.append(_mfu(point, measure, seconds))
            cells += [_figure(name, point.figures) if number == 0 else "" for name in figures]
            table.add_row(*cells)
    return table


def _mfu(point: Point, measure: Measure, seconds: float) -> str:
    peak = point.figures["peak_flops"]
    return UNKNOWN if peak is None else f"{measure.work['model_flops'] / seconds / peak:.1%}"


def _figure(name: str, figures: Mapping[str, float | None]) -> str:
    return UNKNOWN if figures[name] is None else FIGURES[name][1](figures[name])


def _ratio_lines(point: Point) -> list[str]:
    lines = []
    for name, runs in point.ratios.items():
        found = median_interval(runs)
        lines.append(f"{label_of(point)}: {name}: {found.value:.2f} × [{found.low:.2f}, {found.high:.2f}]")
    return lines + [f"{label_of(point)}: {name}: {text}" for name, text in point.notes.items()]


def _protocol_line(record: Record) -> str:
    protocol = ", ".join(f"{name} {value}" for name, value in record.protocol.items())
    return (
        f"bench {record.benchmark}: {protocol}. Medians; spread: between the quartiles, of the median; brackets: "
        f"{LEVEL:.0%} by bootstrap"
    )


def describe_environment(environment: Mapping[str, Any]) -> str:
    """The machine, versions, flags, revision and date on one line."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    flags = " ".join(f"{name}={value}" for name, value in environment["flags"].items() if value)
    device = environment["device"] or "no device"
    return (
        f"{device}; {environment['cores']} cores ({environment['cpu']}, {environment['machine']}), "
        f"{environment['memory_gib']} GiB; {versions}; flags: {flags or 'none'}; revision "
        f"{environment['revision'] or 'unknown'}; {environment['date']}"
    )
