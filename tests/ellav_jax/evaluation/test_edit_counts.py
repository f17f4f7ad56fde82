"""Edits, against a plain dynamic programme."""

import random

import pytest

from ellav_jax.evaluation.edit_counts import count_edits, place_behind


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row, before = [i], row
        for j, y in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def test_errors_are_the_edit_distance():
    generator = random.Random(0)
    for _ in range(100):
        wanted, heard = (generator.choices("ABCD", k=generator.randint(0, 8)) for _ in range(2))
        counts = count_edits(wanted, heard)
        assert counts.errors == distance(wanted, heard)
        assert counts.length == len(wanted)
        assert counts.length - counts.deletions + counts.insertions == len(heard)


@pytest.mark.parametrize(
    "heard, lost", [("a b c d", 0), ("a b c", 1), ("a b", 2), ("", 4), ("a b x y", 0), ("b c d", 0), ("a d", 0)]
)
def test_the_lost_tail_is_what_was_deleted_behind_all_that_was_heard(heard, lost):
    assert count_edits(["a", "b", "c", "d"], heard.split()).lost_tail == lost


def test_a_place_is_carried_over_by_the_alignment():
    recorded = ["SIL", "DH", "AH", "K", "AE", "T", "SIL", "S", "AE", "T"]
    text = ["SIL", "DH", "IY", "K", "AE", "T", "S", "AE", "T", "SIL"]  # another vowel, no pause inside, one at the end
    for place, behind in [(0, text), (3, text[3:]), (6, text[6:]), (7, text[6:]), (10, ["SIL"])]:
        assert text[place_behind(place, recorded, text) :] == behind
