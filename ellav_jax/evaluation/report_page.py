"""The report of an evaluation: one HTML file, sound and figures inside it, that opens without a network."""

import dataclasses
import html
from collections.abc import Sequence

from ellav_jax.evaluation.bootstrap import LEVEL, RESAMPLES
from ellav_jax.evaluation.figures import RANGE_DB, Spoken, spectrograms
from ellav_jax.evaluation.page_parts import Clip, document, paragraphs, player, table
from ellav_jax.evaluation.report import Findings, Row, format_estimate
from ellav_jax.evaluation.sweep_figure import Panel, sweep_curves


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """An utterance to hear and see. verdicts: cells (row, recogniser, what was understood, errors)."""

    id: str
    text: str
    clips: Sequence[Clip]
    drawn: Sequence[Spoken]
    verdicts: Sequence[Sequence[str]]


def render_report(
    findings: Findings, judged: Sequence[Judged], all_utterances: Sequence[Sequence[str]], made: dict
) -> str:
    """HTML5. all_utterances: rows (id, text, errors of each row …) behind their header. made: {caption: {name: value}}.

    Raises InputError where matplotlib is missing.
    """
    intervals = (
        f"In brackets: {LEVEL:.0%} intervals by bootstrap over utterances ({RESAMPLES:,} resamples). Recordings and their "
        "resynthesis by the codec bound what any system can reach with these judges and this codec."
    )
    left_out = [
        *findings.left_out,
        *([f"{len(findings.skipped)} utterances were left out."] if findings.skipped else []),
    ]
    main = f"""<h2 id="figures">Figures</h2>
{_tables(findings)}
{_sweep(findings)}
<h2 id="worst">Worst first</h2>
{paragraphs([_listening(len(judged), len(all_utterances) - 1)])}
{"".join(_judged(one, number) for number, one in enumerate(judged, start=1))}
<h2 id="all">All utterances</h2>
{table("Word errors of each row by the first recogniser, worst first", all_utterances[0], all_utterances[1:])}
{_skipped(findings)}"""
    return document(findings.title, [intervals, *left_out], main, made)


def _listening(shown: int, count: int) -> str:
    return (
        f"{shown} of {count} utterances: those that didn't end by themselves, then by their word errors. Spectrograms of "
        f"one utterance share a time axis and a scale of levels ({RANGE_DB:.0f} dB); lines are phone boundaries, of the "
        "aligner in recordings, and where the GAR ended a phone in what was synthesised."
    )


def _tables(findings: Findings) -> str:
    parts = []
    for group in findings.groups:
        rows = [
            [row.label, *(format_estimate(*pair) for pair in zip(group.columns, estimates, strict=True))]
            for row, estimates in zip(findings.rows, findings.estimates(group), strict=True)
        ]
        parts.append(table(group.title, ["", *(column.title for column in group.columns)], rows))
        meanings = "; ".join(f"{column.title}: {column.meaning}" for column in group.columns)
        parts.append(f'<p class="caption">{html.escape(f"{group.note} {meanings}.".strip())}</p>')
    return "\n".join(parts)


def sweep_panels(findings: Findings) -> list[Panel]:
    """A panel for each first column of a table, and for INF% without caps, over the rows that were swept."""
    swept = [(place, row) for place, row in enumerate(findings.rows) if row.swept is not None]
    panels = []
    for group in findings.groups:
        estimates = findings.estimates(group)
        for number, column in enumerate(group.columns):
            if number and not column.title.startswith(("INF", "CUT")):  # parts of the first, or beside the point
                continue
            lines: dict[str, list] = {}
            for place, row in swept:
                if (found := estimates[place][number]) is not None:
                    lines.setdefault(row.line, []).append((row.swept, found))
            if lines:
                panels.append(Panel(f"{column.title}, {group.title}", {k: sorted(v) for k, v in lines.items()}))
    return panels


def _sweep(findings: Findings) -> str:
    if findings.sweep is None:
        return ""
    panels = sweep_panels(findings)
    ends = "; ".join(
        f"{panel.title}: " + ", ".join(f"{x:g}: {one.value:.3g}" for x, one in next(iter(panel.lines.values())))
        for panel in panels
    )
    drawing = sweep_curves(panels, findings.sweep, f"Curves over {findings.sweep}. {ends}.")
    return f"""<h2 id="sweep">Over {html.escape(findings.sweep)}</h2>
<figure>
<div class="plot" tabindex="0" role="group" aria-label="Curves over {html.escape(findings.sweep)}">{drawing}</div>
</figure>"""


def _judged(one: Judged, number: int) -> str:
    name = f"worst-{number}"
    drawing = ""
    if one.drawn:
        what = "; ".join(
            f"{spoken.title}: {spoken.seconds:.2f} seconds: {' '.join(spoken.phones)}" for spoken in one.drawn
        )
        picture = spectrograms(one.drawn, f"Spectrograms with phone boundaries. {what}.")
        drawing = f'<div class="plot" tabindex="0" role="group" aria-label="Spectrograms">{picture}</div>'
    verdicts = (
        table("What was understood", ["", "by", "text", "errors"], one.verdicts, numbers=False) if one.verdicts else ""
    )
    return f"""
<section class="sentence" aria-labelledby="{name}">
<h3 id="{name}">“{html.escape(one.text)}” <span class="id">{html.escape(one.id)}</span></h3>
<div class="players">
{"".join(map(player, one.clips))}
</div>
{drawing}
{verdicts}
</section>
"""


def _skipped(findings: Findings) -> str:
    if not findings.skipped:
        return ""
    rows = [list(one) for one in findings.skipped]
    listing = table("Utterances that were left out, and why", [], rows)
    return f"<details><summary>Left out: {len(rows)}</summary>{listing}</details>"


def error_cell(row: Row, index: int, errors: str, words: str) -> str:
    """ "3/12": errors of words."""
    result = row.results[index]
    return "–" if result.get(words) is None else f"{result[errors]}/{result[words]}"
