"""Documents of which a part is written by a command: what stands between two marks."""

from collections.abc import Sequence
from pathlib import Path

from ellav_jax.errors import InputError
from ellav_jax.files import write_bytes

BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"


def write_between(path: Path, parts: Sequence[str]) -> None:
    """Writes Markdown between the marks of a document, which is made with the marks alone where it isn't there.

    Raises InputError when the marks are missing.
    """
    before, after = around(path) if path.exists() else ("", "\n")
    body = "\n\n".join([BEGIN, *parts, END])
    write_bytes(path, f"{before}{body}{after}".encode())


def around(path: Path) -> tuple[str, str]:
    """What stands ahead of the tables of a document, and behind them. Raises InputError when the marks are missing."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{path}: expected one line {BEGIN} and, below it, one line {END}; the tables go between them")
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, ["---"] * len(titles), *rows])
