"""Both formats of Praat's TextGrids, and files that are none."""

import codecs
from pathlib import Path

import pytest

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.textgrid_file import Interval, read_textgrid
from tests.textgrid_writer import long_textgrid, short_textgrid

TIERS = {
    "words": [("", 0, 0.25), ('say "ah!" [1] <exists>', 0.25, 1.5)],
    "phones": [("", 0.0, 0.25), ("ɑ̃", 0.25, 1.0), ("tʰ", 1.0, 1.5)],
}
EXPECTED = [(name, [Interval(*part) for part in parts]) for name, parts in TIERS.items()]


@pytest.mark.parametrize("write", [long_textgrid, short_textgrid])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", codecs.BOM_UTF16_LE),
    ],
)
def test_both_formats_are_read_in_all_encodings_of_praat(tmp_path: Path, write, encoding: str, mark: bytes) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_bytes(mark + write(TIERS, 1.5).replace("\n", "\r\n").encode(encoding))
    found = read_textgrid(path)
    assert (found.start_s, found.end_s) == (0, 1.5)
    assert [(tier.name, tier.intervals) for tier in found.tiers] == EXPECTED


def test_comments_points_and_files_without_tiers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_text(
        '"ooTextFile" ! of Praat\n"TextGrid"\n0 2 <exists> 2\n"TextTier" "clicks" 0 2 1 ! one click\n1.5 "here"\n'
        '"IntervalTier" "phones" 0 2 1 0 2e0 "a"\n'
    )
    found = read_textgrid(path)
    assert [tier.name for tier in found.tiers] == ["clicks", "phones"]
    assert [tier.intervals for tier in found.tiers] == [[], [Interval("a", 0, 2)]]
    path.write_text('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? <absent>\n')
    assert read_textgrid(path).tiers == []
    path.write_text(
        'File type = "ooTextFile short"\n"TextGrid"\n\n0\n.5\n<exists>\n1\n"IntervalTier" "a" 0 .5 1 0 .5 "b"\n'
    )
    assert read_textgrid(path).tiers[0].intervals == [Interval("b", 0, 0.5)]


def test_more_intervals_than_announced_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_text(long_textgrid(TIERS, 1.5, announced=1))
    assert [(tier.name, tier.intervals) for tier in read_textgrid(path).tiers] == EXPECTED


@pytest.mark.parametrize("write", [long_textgrid, short_textgrid])
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, write) -> None:
    path = tmp_path / "one.TextGrid"
    content = write(TIERS, 1.5).rstrip()
    for length in range(len(content)):
        path.write_text(content[:length])
        with pytest.raises(UnusableError) as error:
            read_textgrid(path)
        assert error.value.fault == "textgrid-malformed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with None, expected a TextGrid"),
        (b"ooBinaryFile\x08TextGrid\x00\x00", "expected a TextGrid file in text"),
        (b'{"start": 0, "end": 1.5, "tiers": {}}', "expected a TextGrid file in text"),
        (b'"ooTextFile"\n"Pitch 1"\n0 1', "begins with 'Pitch 1'"),
        (short_textgrid(TIERS, 1.5).encode() + b'"IntervalTier"\n', "after the last of 2 tiers"),
        (short_textgrid(TIERS, 1.5).replace('"IntervalTier"', '"PitchTier"').encode(), "class 'PitchTier'"),
        (
            short_textgrid({"phones": [("a", 0, "x")]}, 1.5).encode(),
            "end of interval 1 of 1 in tier 'phones': found 'a'",
        ),
        (short_textgrid(TIERS, 1.5).replace("\n2\n", "\n-1\n").encode(), "found -1, expected a whole number"),
        ("größe".encode("latin-1"), "not text in UTF-8 or UTF-16"),
    ],
)
def test_what_is_no_textgrid_is_refused_with_what_was_found(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_bytes(content)
    with pytest.raises(UnusableError, match=message) as error:
        read_textgrid(path)
    assert error.value.fault == "textgrid-malformed"
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.TextGrid", tmp_path):
        with pytest.raises(UnusableError, match="no such TextGrid") as error:
            read_textgrid(path)
        assert error.value.fault == "textgrid-missing"
