import numpy as np
import pytest

from ellav_jax.evaluation.stability import COLUMNS, capped_phones, infinite_frames
from ellav_jax.hybrid_sequence import LayoutConfig, restore_durations


def test_endless_is_75_frames_a_second_less_5():
    assert infinite_frames(25, 75) == 1870
    assert infinite_frames(40, 75) == 2995


@pytest.mark.parametrize("advance", [0, 2, 3])
def test_capped_phones_are_those_at_their_cap_in_the_sequence(advance):
    in_sequence = np.array([8, 9, 30, 12, 30, 29, 10 + advance])
    durations = restore_durations(in_sequence, advance)
    caps = [30, 12, 30, 30, 10]
    assert capped_phones(durations, 2, caps, LayoutConfig(local_advance=advance)) == (4, 5)


def test_valle_has_no_ends_of_phones():
    assert capped_phones(np.array([5, 5]), 1, [5], LayoutConfig(order="valle")) == (None, None)


def test_columns_skip_what_was_not_measured():
    results = [{"infinite": 1, "seconds": 4.0, "reference_seconds": 2.0}, {"infinite": 0, "seconds": 3.0}]
    figures = {column.title: column.estimate(results) for column in COLUMNS}
    assert figures["INF %"].value == 50
    assert figures["duration"].value == 2
    assert figures["RTF"] is None
