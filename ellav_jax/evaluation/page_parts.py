"""Parts that pages are made of: paragraphs, tables, players."""

import base64
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import soundfile

from ellav_jax.evaluation.page_style import STYLE


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """Something to play: float32 [S] in [-1, 1] at `sample_rate` Hz. `emphasis`: what the page is about.

    file: where it is beside the page, for browsers that can't play it; None where it is in the page alone.
    """

    title: str
    note: str
    waveform_S: np.ndarray
    sample_rate: int
    emphasis: bool = False
    file: str | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.waveform_S) / self.sample_rate


def paragraphs(texts: Sequence[str]) -> str:
    """A paragraph each."""
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts)


def player(clip: Clip) -> str:
    """A figure with an audio player; the sound is inside the page."""
    emphasis = ' class="emphasis"' if clip.emphasis else ""
    title, note = html.escape(clip.title), html.escape(clip.note)
    # What is inside <audio> shows where there is no player.
    instead = (
        "" if clip.file is None else f'no player here: <a href="{html.escape(clip.file)}">{html.escape(clip.file)}</a>'
    )
    return f"""<figure{emphasis}>
<figcaption><strong>{title}</strong>{note} · {clip.seconds:.2f}&nbsp;s</figcaption>
<audio controls preload="metadata" aria-label="{title}" src="{_data_uri(clip)}">{instead}</audio>
</figure>
"""


def _data_uri(clip: Clip) -> str:
    """FLAC: without loss, half the size of WAV, and every current browser plays it."""
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(clip.waveform_S, -1, 1), clip.sample_rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(stream.getvalue()).decode()


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """The first cell of each row is its header; the others are `numbers` (or text) where there is a header row."""
    number = ' class="number"' if header and numbers else ""
    head = ""
    if header:
        cells = "".join(
            f'<th scope="col"{number if column else ""}>{html.escape(text)}</th>' for column, text in enumerate(header)
        )
        head = f"<thead><tr>{cells}</tr></thead>\n"
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td{number}>{html.escape(value)}</td>" for value in values)
        + "</tr>"
        for name, *values in rows
    )
    title = f"<caption>{html.escape(caption)}</caption>"
    return f'<div class="wide"><table>{title}\n{head}<tbody>\n{body}\n</tbody></table></div>'


def document(
    title: str, lead: Sequence[str], main: str, made: Mapping[str, Mapping[str, str]], credit: str = ""
) -> str:
    """A whole page as HTML5: title and lead paragraphs, `main` (HTML), how it was made in tables, and a credit below."""
    tables = "".join(table(caption, [], list(rows.items())) for caption, rows in made.items())
    footer = f"\n<footer><p>{html.escape(credit)}</p></footer>" if credit else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
{paragraphs(lead)}
</header>
<main>
{main}
<h2 id="made">How it was made</h2>
<div class="made">
{tables}
</div>
</main>{footer}
</body>
</html>
"""
