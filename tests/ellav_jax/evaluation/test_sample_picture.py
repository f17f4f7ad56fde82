"""The picture of a sample: its spans stand where the phones are."""

import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ellav_jax.errors import InputError
from ellav_jax.evaluation.figures import Spoken
from ellav_jax.evaluation.sample_picture import SHADES, sample_picture

RATE, FRAMES = 24_000, 75


def _spoken(durations):
    frames = int(np.sum(durations))
    waveform_S = np.random.default_rng(1).normal(0, 0.1, frames * RATE // FRAMES).astype(np.float32)
    return Spoken("title", waveform_S, RATE, ["AA"] * len(durations), np.array(durations), FRAMES)


def _runs(line_Wx3):
    """Widths of the stretches of each shade along a row of pixels, in order, in shares of all of them."""
    shades = np.array([[round(255 * part) for part in to_rgb(shade)] for shade in SHADES])
    near_Wx2 = np.abs(line_Wx3[:, None].astype(int) - shades).max(-1) < 6
    kinds = [int(np.argmax(near)) for near in near_Wx2 if near.any()]
    starts = [0, *(index for index in range(1, len(kinds)) if kinds[index] != kinds[index - 1])]
    return np.diff([*starts, len(kinds)]) / max(len(kinds), 1)


def test_spans_have_the_lengths_of_their_phones():
    reference, said = [30, 60, 10], [20, 20, 40]
    picture_HxWx3 = sample_picture(_spoken(reference), _spoken(said))
    assert picture_HxWx3.shape[2] == 3
    assert picture_HxWx3.dtype == np.uint8
    # Rows of pixels that cross spans, near their tops, where no letters are: two groups, reference above.
    found = [tuple(np.round(_runs(row), 2)) for row in picture_HxWx3 if len(_runs(row)) == 3]
    for durations in (reference, said):
        share = np.array(durations) / sum(durations)
        assert any(np.abs(np.array(runs) - share).max() < 0.02 for runs in found)
    distances = [np.abs(np.array(found[index]) - np.array(reference) / 100).max() for index in (0, -1)]
    assert distances[0] < 0.02 < distances[1]


def test_phones_that_were_never_reached_take_no_room():
    cut_off = sample_picture(_spoken([30, 60, 10]), _spoken([50, 0, 0]))
    assert cut_off.std() > 10


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'ellav-jax\[report\]'"):
        sample_picture(_spoken([10]), _spoken([10]))
