"""What an evaluation found, as tables: rows of systems, groups of columns, and every utterance; as JSON and as CSV."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ellav_jax.evaluation.bootstrap import LEVEL, RESAMPLES, Estimate
from ellav_jax.evaluation.metric import Column


@dataclasses.dataclass(frozen=True)
class Group:
    """Columns that make one table. note: what to know when reading it."""

    title: str
    note: str
    columns: Sequence[Column]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A row of all tables: the values of each utterance, all metrics' together. line: what it shares with the other points
    of its curve in a sweep, and swept, where on the curve it is; None for recordings and resynthesis."""

    label: str
    results: Sequence[Mapping[str, Any]]
    line: str | None = None
    swept: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """All that was found. sweep: name of what was swept. settings: of the evaluation. left_out, skipped: metrics that were
    not measured and utterances that were not spoken, and why."""

    title: str
    groups: Sequence[Group]
    rows: Sequence[Row]
    sweep: str | None
    settings: Mapping[str, Any]
    left_out: Sequence[str]
    skipped: Sequence[tuple[str, str]]

    def estimates(self, group: Group) -> list[list[Estimate | None]]:
        """Of each row, of each column."""
        return [[column.estimate(row.results) for column in group.columns] for row in self.rows]


def as_json(findings: Findings) -> dict[str, Any]:
    """Everything, the values of each utterance included."""
    return {
        "title": findings.title,
        "settings": findings.settings,
        "interval": f"{LEVEL:.0%} percentile bootstrap over utterances, {RESAMPLES} resamples",
        "left_out": list(findings.left_out),
        "skipped": [{"id": name, "reason": reason} for name, reason in findings.skipped],
        "figures": [dataclasses.asdict(one) for one in _figures(findings)],
        "utterances": {row.label: [dict(one) for one in row.results] for row in findings.rows},
    }


def as_csv(findings: Findings) -> str:
    """A line for each figure of each row."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(_Figure)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(one) for one in _figures(findings))
    return stream.getvalue()


@dataclasses.dataclass(frozen=True)
class _Figure:
    row: str
    table: str
    column: str
    meaning: str
    value: float
    low: float
    high: float
    utterances: int


def _figures(findings: Findings) -> list[_Figure]:
    return [
        _Figure(row.label, group.title, column.title, column.meaning, **dataclasses.asdict(estimate))
        for group in findings.groups
        for row, estimates in zip(findings.rows, findings.estimates(group), strict=True)
        for column, estimate in zip(group.columns, estimates, strict=True)
        if estimate is not None
    ]


def format_estimate(column: Column, estimate: Estimate | None) -> str:
    """Value and interval, "–" where there is none."""
    if estimate is None:
        return "–"
    value = f"{estimate.value:.{column.digits}f}"
    if not column.interval:
        return value
    return f"{value} [{estimate.low:.{column.digits}f}, {estimate.high:.{column.digits}f}]"


def worst_first(rows: Sequence[Row], errors: str, words: str) -> list[int]:
    """Utterances by the mean over rows of errors / words, largest first; those that didn't end come before all others.

    rows: systems that spoke the same utterances. An utterance without these values counts as one without errors.
    """

    def badness(index: int) -> tuple[int, float]:
        results = [row.results[index] for row in rows]
        unfinished = sum(not one["finished"] for one in results)
        shares = [(one.get(errors) or 0) / max(one.get(words) or 0, 1) for one in results]
        return unfinished, sum(shares) / len(shares)

    return sorted(range(len(rows[0].results)), key=lambda index: (*(-value for value in badness(index)), index))
