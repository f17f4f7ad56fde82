"""TextGrids as they are written, read back."""

from ellav_jax.frontend.textgrid_file import Interval, TextGrid, Tier, read_textgrid
from ellav_jax.frontend.textgrid_text import textgrid_text


def test_a_textgrid_reads_back_as_it_was_written(tmp_path):
    words = Tier("words", [Interval("", 0.0, 0.25), Interval('the "naïve" way', 0.25, 1.5)])
    phones = Tier("phones", [Interval("SIL", 0.0, 0.25), Interval("ə", 0.25, 1.333333), Interval("t", 1.333333, 1.5)])
    written = TextGrid(0.0, 1.5, [words, phones])
    path = tmp_path / "a.TextGrid"
    path.write_text(textgrid_text(written), encoding="utf-8")
    assert read_textgrid(path) == written
