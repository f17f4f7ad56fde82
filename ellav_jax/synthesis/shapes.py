"""The shapes that programs are compiled for: few, so that a sentence seldom brings a new one."""

import bisect
from typing import NamedTuple

from ellav_jax.errors import InputError

PHONE_ROOMS = (32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Room for phones to speak. At 12 phones a second, which is usual, 256 are 21 s."""
ROW_LENGTHS = (512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
"""Positions of a NAR's row."""
PHONES_A_SECOND = 12
NAR_POSITIONS = 8192
"""Of one NAR batch, about: attention's memory grows with the square of a row's length, so long rows run fewer at a time."""


class GarShape(NamedTuple):
    """Sizes of a decoding: positions of the prefix, phones, and frames at which it is cut off."""

    prefix: int
    phones: int
    frames: int


def gar_shape(
    prefix_rest: int, num_phones: int, least_frames: int, frame_rate: int, global_advance: bool, max_frames: int | None
) -> GarShape:
    """The least shape that holds a sentence.

    prefix_rest: positions of the prefix but for the phones to speak in the global advance. least_frames: what the floors
    ask for. max_frames: the limit on the sentence where one is set; else frames go by the room for phones: twice the time
    that so many take, so that droning is cut off, not waited for. Raises InputError for more than 2,048 phones' worth.
    """
    for phones in PHONE_ROOMS:
        frames = max_frames or round_up(2 * frame_rate * phones // PHONES_A_SECOND + frame_rate, 256)
        if num_phones <= phones and (max_frames or least_frames < frames):
            return GarShape(round_up(prefix_rest + global_advance * phones, 256), phones, frames)
    raise InputError(
        f"{num_phones} phones of {least_frames} frames or more in one go; expected at most {PHONE_ROOMS[-1]} phones, and "
        "durations to match; split the text at its sentences"
    )


def row_length(positions: int) -> int:
    """The length of a NAR's row for so many positions."""
    place = bisect.bisect_left(ROW_LENGTHS, positions)
    return ROW_LENGTHS[place] if place < len(ROW_LENGTHS) else round_up(positions, ROW_LENGTHS[-1])


def row_lengths(least: int, most: int) -> list[int]:
    """The lengths of NAR rows for least to most positions."""
    first, last = row_length(least), row_length(most)
    return [length for length in ROW_LENGTHS if first <= length < last] + [last]


def rows_at_a_time(length: int, batch_size: int, multiple: int = 1) -> int:
    """NAR rows of this length in one batch: a multiple of `multiple`, at most batch_size (a multiple too)."""
    return min(batch_size, max(multiple, NAR_POSITIONS // length // multiple * multiple))


def round_up(number: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `number`."""
    return -(-number // multiple) * multiple
