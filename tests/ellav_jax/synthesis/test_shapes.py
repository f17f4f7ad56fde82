"""Shapes that programs are compiled for."""

import pytest

from ellav_jax.errors import InputError
from ellav_jax.synthesis.shapes import GarShape, gar_shape, round_up, row_length, row_lengths, rows_at_a_time


def test_a_shape_holds_its_sentence_and_few_hold_many():
    shapes = {gar_shape(300, phones, 2 * phones, 75, True, None) for phones in range(1, 241)}
    assert len(shapes) == 5
    for phones in (1, 32, 33, 240):
        shape = gar_shape(300, phones, 0, 75, True, None)
        assert shape.phones >= phones
        assert shape.prefix >= 300 + phones
        assert shape.frames >= 2 * 75 * phones / 12  # twice the time that so many phones take


def test_floors_find_room_and_limits_are_kept():
    assert gar_shape(100, 10, 0, 75, False, None) == GarShape(256, 32, 512)
    assert gar_shape(100, 10, 600, 75, False, None).frames > 600
    assert gar_shape(100, 10, 600, 75, True, 3000) == GarShape(256, 32, 3000)
    with pytest.raises(InputError, match="at most 2048 phones"):
        gar_shape(100, 3000, 0, 75, True, None)


def test_rows():
    assert [row_length(n) for n in (1, 512, 513, 20000)] == [512, 512, 768, 32768]
    assert row_lengths(500, 1100) == [512, 768, 1024, 1536]
    assert row_lengths(500, 500) == [512]
    assert [rows_at_a_time(length, 8) for length in (512, 2048, 4096, 16384)] == [8, 4, 2, 1]
    assert [rows_at_a_time(length, 8, 2) for length in (512, 3072, 16384)] == [8, 2, 2]


def test_rounding_up():
    assert [round_up(n, 256) for n in (0, 1, 256, 257)] == [0, 256, 256, 512]
