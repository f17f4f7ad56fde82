"""Praat's TextGrid files, long and short format: their tiers of intervals."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ellav_jax.errors import UnusableError

# Both formats are a stream of texts in quotes (a quote in them is doubled), numbers and flags, each between spaces or
# ends of lines; all else is there for people to read. "!" begins a comment.
_TOKEN = re.compile(
    r"""(?<!\S)(?:"(?P<text>(?:[^"]|"")*)"|<(?P<flag>\w+)>|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))(?!\S)"""
    r"|!.*",
    re.MULTILINE,
)

_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Interval(NamedTuple):
    """One interval of a tier, in seconds."""

    label: str
    start_s: float
    end_s: float


class Tier(NamedTuple):
    """A tier of intervals, in the file's order; a tier of points has none."""

    name: str
    intervals: list[Interval]


class TextGrid(NamedTuple):
    """A TextGrid from start_s to end_s (s)."""

    start_s: float
    end_s: float
    tiers: list[Tier]


def read_textgrid(path: Path) -> TextGrid:
    """Reads a TextGrid in UTF-8 (with or without byte-order mark), or in UTF-16 with one, as Praat writes it.

    Raises UnusableError: "textgrid-missing", or "textgrid-malformed" for anything that isn't a whole TextGrid in text.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UnusableError("textgrid-missing", f"{path}: no such TextGrid file") from None
    except OSError as error:
        raise UnusableError("textgrid-missing", f"{path}: can't be read ({error.strerror})") from None
    encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _malformed(path, f"not text in UTF-8 or UTF-16 ({error}); save it as a text file in UTF-8") from None
    return _Parser(path, text).textgrid()


def _malformed(path: Path, what: str) -> UnusableError:
    return UnusableError("textgrid-malformed", f"{path}: {what}")


class _Parser:
    def __init__(self, path: Path, text: str):
        self._path = path
        self._tokens = self._values(text)
        self._next: str | float | None = next(self._tokens, None)

    def textgrid(self) -> TextGrid:
        # "ooTextFile short" was the short format's name in older versions of Praat.
        for expected in (("ooTextFile", "ooTextFile short"), ("TextGrid",)):
            if (found := self._next) not in expected:
                what = f"begins with {found!r}, expected a TextGrid file in text ({expected[0]!r})"
                raise _malformed(self._path, what)
            self._take()
        start, end = self._number("start of the file"), self._number("end of the file")
        if self._text("flag of tiers") != "exists":
            return TextGrid(start, end, [])
        count = self._count("number of tiers")
        tiers = [self._tier() for _ in range(count)]
        if self._next is not None:
            raise _malformed(self._path, f"found {self._next!r} after the last of {count} tiers, expected the end")
        return TextGrid(start, end, tiers)

    def _tier(self) -> Tier:
        kind = self._text("class of a tier")
        if kind not in ("IntervalTier", "TextTier"):
            raise _malformed(self._path, f"found a tier of class {kind!r}, expected IntervalTier or TextTier")
        name = self._text("name of a tier")
        self._number(f"start of tier {name!r}")
        self._number(f"end of tier {name!r}")
        count, intervals = self._count(f"size of tier {name!r}"), []
        read = 0
        # Some MFA 3.0 files announce fewer intervals than they have, as their blank ones weren't counted.
        while read < count or isinstance(self._next, float):
            read += 1
            what = f"of interval {read} of {count} in tier {name!r}"
            start = self._number(f"start {what}")
            end = self._number(f"end {what}") if kind == "IntervalTier" else start
            label = self._text(f"text {what}")
            if kind == "IntervalTier":
                intervals.append(Interval(label, start, end))
        return Tier(name, intervals)

    def _values(self, text: str) -> Iterator[str | float]:
        for match in _TOKEN.finditer(text):
            if match["number"] is not None:
                yield float(match["number"])
            elif match["flag"] is not None:
                yield match["flag"]
            elif match["text"] is not None:
                yield match["text"].replace('""', '"')

    def _take(self) -> str | float | None:
        value, self._next = self._next, next(self._tokens, None)
        return value

    def _number(self, what: str) -> float:
        if not isinstance(self._next, float):
            raise self._unexpected(what, "a number")
        return self._take()

    def _count(self, what: str) -> int:
        value = self._number(what)
        if value < 0 or value != int(value):
            raise _malformed(self._path, f"{what}: found {value:g}, expected a whole number")
        return int(value)

    def _text(self, what: str) -> str:
        if not isinstance(self._next, str):
            raise self._unexpected(what, "a text")
        return self._take()

    def _unexpected(self, what: str, expected: str) -> UnusableError:
        found = "the file's end: it is cut off" if self._next is None else repr(self._next)
        return _malformed(self._path, f"{what}: found {found}, expected {expected}")
