"""Tables and figure of `ellav paper-in-small`, as Markdown."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.evaluation.bootstrap import Estimate
from ellav_jax.evaluation.figures import standalone_svg
from ellav_jax.evaluation.sweep_figure import Panel, sweep_curves
from ellav_jax.files import read_json, write_bytes
from ellav_jax.training.metrics import read_metrics
from launch.marked_document import markdown_table, write_between

_UNDERSTOOD = ("WER %", "CUT %", "not heard %")
_STABLE = ("INF %", "INF % no caps", "capped %", "duration", "SPK", "DNSMOS", "RTF")
_DRAWN = ("WER %", "CUT %", "INF % no caps", "duration")


@dataclasses.dataclass(frozen=True)
class _Figure:
    """A figure of a report: of a row, by a judge ("" for the stability table), with the name of its column."""

    row: str
    judge: str
    column: str
    estimate: Estimate

    @property
    def title(self) -> str:
        """Column, and judge where there may be several."""
        return f"{self.column}, {self.judge}" if self.column in ("WER %", "CUT %") else self.column

    def text(self, interval: bool) -> str:
        """The value, with its interval where one is asked for."""
        digits = 2 if self.column in ("duration", "SPK", "DNSMOS", "RTF") else 1
        value, low, high = (f"{one:.{digits}f}" for one in dataclasses.astuple(self.estimate)[:3])
        return f"{value} [{low}, {high}]" if interval else value


def write_document(path: Path, out: Path, systems: Sequence[str], seconds: Mapping[str, float | None]) -> None:
    """Writes the tables between the marks of `path` (made with the marks alone where it isn't there), the figure beside it.

    out: folder of `ellav paper-in-small`; seconds: of each part. Raises InputError when the marks are missing.
    """
    greedy, sampled = _read(out / "greedy"), _read(out / "sampled")
    drawing = path.with_suffix(".svg")
    write_bytes(drawing, standalone_svg(_draw(systems, greedy, sampled)).encode())
    tables = [
        "Trained alike, teacher forced on the held-out clips:",
        _table(_training(out, systems, seconds)),
        "Greedy, the held-out clips, cross-sentence:",
        _table(_report(greedy, _UNDERSTOOD, interval=True)),
        _table(_report(greedy, _STABLE, interval=False)),
        "Over top-p at temperature 1 (greedy stands at 0); bars are 95 % intervals:",
        f"![Word error rates, endings and durations over top-p]({drawing.name})",
        _table(_report(sampled, ("WER %", "CUT %", *_STABLE), interval=False)),
    ]
    if (out / "hard" / "report.json").exists():
        hard = _read(out / "hard")
        tables += [
            "Greedy, the 100 hard sentences:",
            _table(_report(hard, (*_UNDERSTOOD, "INF %", "INF % no caps", "capped %"), interval=False)),
        ]
    tables += ["Times:", _table(_times(seconds))]
    write_between(path, tables)


def _read(folder: Path) -> list[_Figure]:
    figures = []
    for one in read_json(folder / "report.json", "report of ellav evaluate")["figures"]:
        estimate = Estimate(one["value"], one["low"], one["high"], one["utterances"])
        # Of a recogniser in a folder, its kind: the document is for readers elsewhere.
        judge = one["table"].partition(":")[0]
        figures.append(_Figure(one["row"], judge, one["column"], estimate))
    return figures


def _report(figures: Sequence[_Figure], columns: Sequence[str], interval: bool) -> list[list[str]]:
    """A line for each row, a column for each wanted figure, by the order of `columns` and then of judges."""
    wanted = [one for column in columns for one in figures if one.column == column]
    titles = list(dict.fromkeys(one.title for one in wanted))
    cells = {(one.row, one.title): one.text(interval) for one in wanted}
    rows = list(dict.fromkeys(one.row for one in figures))
    return [["", *titles], *([row, *(cells.get((row, title), "") for title in titles)] for row in rows)]


def _training(out: Path, systems: Sequence[str], seconds: Mapping[str, float | None]) -> list[list[str]]:
    lines = [["", "steps", "layer-1 loss, nats", "layer-1 accuracy %", "minutes"]]
    for name in systems:
        held_out = read_metrics(out / name / "metrics.jsonl", "held_out")
        if not held_out:
            raise InputError(f"{out / name / 'metrics.jsonl'}: no held-out figures; was it trained to the end?")
        last = held_out[-1]
        figures = [f"{last['layer_1_loss']:.3f}", f"{100 * last['layer_1_accuracy']:.1f}"]
        lines.append([name, str(last["step"]), *figures, f"{(seconds[name] or 0) / 60:.1f}"])
    return lines


def _draw(systems: Sequence[str], greedy: Sequence[_Figure], sampled: Sequence[_Figure]) -> str:
    points: dict[str, dict[str, list[tuple[float, Any]]]] = {}
    for one in (*greedy, *sampled):
        system, _, value = one.row.partition(", top_p ")
        if system in systems and one.column in _DRAWN:
            lines = points.setdefault(one.title, {})
            lines.setdefault(system, []).append((float(value or 0), one.estimate))
    panels = [Panel(title, {system: sorted(line) for system, line in lines.items()}) for title, lines in points.items()]
    return sweep_curves(panels, "top-p", "Word error rates, endings and durations over top-p, a line for each system")


def _times(seconds: Mapping[str, float | None]) -> list[list[str]]:
    return [["part", "minutes"], *([name, f"{(time or 0) / 60:.1f}"] for name, time in seconds.items())]


def _table(lines: Sequence[Sequence[str]]) -> str:
    return markdown_table(lines[0], lines[1:])
