"""Measures what was spoken, and writes the report of `ellav evaluate`."""

import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile

from ellav_jax.evaluation.figures import Spoken
from ellav_jax.evaluation.intelligibility import Intelligibility
from ellav_jax.evaluation.json_lines import JsonLines
from ellav_jax.evaluation.metric import Metric
from ellav_jax.evaluation.page_parts import Clip
from ellav_jax.evaluation.report import Findings, Group, as_csv, as_json, format_estimate, worst_first
from ellav_jax.evaluation.report import Row as ReportRow
from ellav_jax.evaluation.report_page import Judged, error_cell, render_report
from ellav_jax.evaluation.stability import COLUMNS
from ellav_jax.files import write_bytes, write_json
from launch.assemble import say
from launch.evaluation.metrics import measure
from launch.evaluation.rows import SPEECH, Row, uncapped_results
from launch.evaluation.targets import Work, each_skipped

STABILITY = Group(
    "Stability and speed",
    "INF % counts utterances that last 75 · T_max - 5 frames or were stopped by a limit on frames before; without caps on "
    "phones only the GAR speaks, with the same seeds.",
    COLUMNS,
)
PACKAGES = (
    "ellav-jax",
    "jax",
    "pocketsphinx",
    "jiwer",
    "whisper-normalizer",
    "faster-whisper",
    "speechmos",
    "resemblyzer",
)
DRAWN_SYSTEMS = 2
"""Systems whose spectrograms are drawn of an utterance, below the resynthesis."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What is to be reported. figures: whether any are drawn. prompt_wav: index of a target → its prompt as the model was
    given it."""

    out: Path
    title: str
    work: Work
    rows: Sequence[Row]
    metrics: Sequence[Metric]
    left_out: Sequence[str]
    sweep: str | None
    figures: bool
    settings: Mapping[str, Any]
    players: int
    frame_rate: int
    prompt_wav: Callable[[int], np.ndarray]


def write_report(evaluation: Evaluation) -> None:
    """Measures what isn't measured yet, writes report.json, report.csv and report.html, and prints the tables."""
    findings = _measure_all(evaluation)
    out = evaluation.out
    write_json(out / "report.json", as_json(findings))
    write_bytes(out / "report.csv", as_csv(findings).encode())
    order = _worst(evaluation, findings)
    judged = [_judged(evaluation, findings, index) for index in order[: evaluation.players]]
    page = render_report(findings, judged, _all_utterances(evaluation, findings, order), _made(evaluation))
    write_bytes(out / "report.html", page.encode())
    for line in each_skipped(evaluation.work.skipped):
        say(line)
    for group in findings.groups:
        say(_plain_table(group, findings))
    say(f"{out / 'report.html'}: open it in a browser")


def _measure_all(evaluation: Evaluation) -> Findings:
    by_metric = [
        [measure(metric, row, evaluation.prompt_wav) for row in evaluation.rows] for metric in evaluation.metrics
    ]
    # Every metric has names of its own for its values, but recognisers share theirs: each has its group's number ahead.
    groups, rows = [STABILITY], []
    for number, metric in enumerate(evaluation.metrics):
        columns = [_numbered(column, number) for column in metric.columns]
        groups.append(Group(metric.name, "", columns))
    for place, row in enumerate(evaluation.rows):
        speech = JsonLines(row.folder / SPEECH).entries
        uncapped = uncapped_results(row) if row.system else [{}] * len(speech)
        results = []
        for index, (line, more) in enumerate(zip(speech, uncapped, strict=True)):
            values = dict(line) | more
            for number in range(len(evaluation.metrics)):
                found = by_metric[number][place][index]
                values |= {f"{number}.{name}": value for name, value in found.items() if name != "id"}
            results.append(values)
        system = row.system
        rows.append(ReportRow(row.label, results, system.line if system else None, system.swept if system else None))
    return Findings(
        evaluation.title,
        groups,
        rows,
        evaluation.sweep if evaluation.figures else None,
        evaluation.settings,
        evaluation.left_out,
        evaluation.work.skipped,
    )


def _numbered(column: Any, number: int) -> Any:
    denominator = None if column.denominator is None else f"{number}.{column.denominator}"
    return dataclasses.replace(column, numerator=f"{number}.{column.numerator}", denominator=denominator)


def _recognizers(evaluation: Evaluation) -> list[tuple[int, str]]:
    return [(n, metric.name) for n, metric in enumerate(evaluation.metrics) if isinstance(metric, Intelligibility)]


def _systems(evaluation: Evaluation, findings: Findings) -> list[ReportRow]:
    return [one for one, row in zip(findings.rows, evaluation.rows, strict=True) if row.system]


def _comparable(evaluation: Evaluation, findings: Findings) -> list[ReportRow]:
    """Rows that say the targets' texts."""
    return list(findings.rows) if evaluation.work.references else _systems(evaluation, findings)


def _worst(evaluation: Evaluation, findings: Findings) -> list[int]:
    number = next((number for number, _ in _recognizers(evaluation)), None)
    return worst_first(_systems(evaluation, findings), f"{number}.word_errors", f"{number}.words")


def _all_utterances(evaluation: Evaluation, findings: Findings, order: Sequence[int]) -> list[list[str]]:
    rows = _comparable(evaluation, findings)
    number = next((number for number, _ in _recognizers(evaluation)), None)
    names = (f"{number}.word_errors", f"{number}.words")
    header = ["utterance", "text", *(row.label for row in rows)]
    targets = evaluation.work.targets
    return [
        header,
        *([targets[i].id, targets[i].text, *(error_cell(row, i, *names) for row in rows)] for i in order),
    ]


def _judged(evaluation: Evaluation, findings: Findings, index: int) -> Judged:
    target = evaluation.work.targets[index]
    prompt_S = evaluation.prompt_wav(index)
    by_label = {row.label: row for row in evaluation.rows}
    clips, drawn, systems = [], [], 0
    for report_row in _comparable(evaluation, findings):
        row, result = by_label[report_row.label], report_row.results[index]
        wave_S, rate = soundfile.read(row.wav(index), dtype="float32")
        if not clips:
            clips.append(Clip("Prompt", f"{target.prompt_id}, as the model hears it", prompt_S, rate))
        note = "" if result["finished"] else "cut off at the limit on frames"
        file = row.wav(index).relative_to(evaluation.out).as_posix()
        clips.append(Clip(row.label, note, wave_S, rate, emphasis=row.system is not None, file=file))
        systems += row.system is not None
        if evaluation.figures and (row.folder.name == "resynthesis" or (row.system and systems <= DRAWN_SYSTEMS)):
            phones, durations = result["drawn"]["phones"], np.array(result["drawn"]["durations"])
            drawn.append(Spoken(row.label, wave_S, rate, phones, durations, evaluation.frame_rate))
    verdicts = [
        [
            row.label,
            name,
            row.results[index][f"{n}.understood"],
            error_cell(row, index, f"{n}.word_errors", f"{n}.words"),
        ]
        for row in _comparable(evaluation, findings)
        for n, name in _recognizers(evaluation)
    ]
    return Judged(target.id, target.text, clips, drawn, verdicts)


def _plain_table(group: Group, findings: Findings) -> str:
    rows = [["", *(column.title for column in group.columns)]]
    for row, estimates in zip(findings.rows, findings.estimates(group), strict=True):
        rows.append([row.label, *(format_estimate(*pair) for pair in zip(group.columns, estimates, strict=True))])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"\n{group.title}", *lines])


def _made(evaluation: Evaluation) -> dict[str, dict[str, str]]:
    systems = {
        row.label: f"{row.system.gar}, {row.system.nar}; {_settings(dataclasses.asdict(row.system.sampling))}"
        for row in evaluation.rows
        if row.system
    }
    work = {name: str(value) for name, value in evaluation.settings["work"].items() if name != "prompts"}
    limits = {name: str(value) for name, value in evaluation.settings["limits"].items()}
    device = jax.devices()[0]
    return {
        "Systems": systems,
        "What was spoken": work,
        "Limits on phones": limits,
        "Machine and versions": {
            "Device": f"{jax.device_count()} × {device.device_kind} ({device.platform}), {os.cpu_count()} cores",
            "System": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "Packages": ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
        },
    }


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
