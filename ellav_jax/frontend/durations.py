"""Phone intervals in seconds → whole frames, with the rules for silence and edges."""

from collections.abc import Sequence

import numpy as np

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.inventory import SIL

FRAME_RATE = 75
"""Frames a second of EnCodec at 24 kHz."""


def frame_durations(
    intervals: Sequence[PhoneInterval], num_frames: int, frontend: Frontend
) -> tuple[list[str], np.ndarray]:
    """Phones and their durations in frames (int32 [n], each at least 1, summing to `num_frames`).

    Boundaries are rounded to the nearest frame. Interior SIL below `silence_min_seconds` joins the preceding phone; SIL
    at an edge stays a phone when it lasts a frame; `silence_as_phone=False` joins all of it (leading SIL to the
    following phone). Adjacent equal phones stay two, adjacent SIL is one.
    Raises UnusableError when the intervals leave gaps or don't cover `num_frames`, when more phones than frames are
    left, and when nothing but silence is there although silence is no phone.
    """
    _check_cover(intervals, num_frames)
    phones, ends = _join_silences(intervals, num_frames, frontend)
    if not phones:
        raise UnusableError("text-empty", "the alignment holds nothing but silence, expected at least one phone")
    if len(phones) > num_frames:
        raise UnusableError(
            "too-many-phones",
            f"the alignment holds {len(phones)} phones, expected at most one a frame for {num_frames} frames",
        )
    boundaries = np.rint(np.array(ends) * FRAME_RATE).astype(np.int64)
    boundaries[-1] = num_frames
    order = np.arange(len(phones))
    # At least one frame a phone: push boundaries right to be strictly increasing, then left to leave room for the rest.
    boundaries = np.maximum.accumulate(np.maximum(boundaries, 1) - order) + order
    boundaries = np.minimum(boundaries, num_frames - order[::-1])
    return phones, np.diff(boundaries, prepend=0).astype(np.int32)


def trim_edges(
    waveform: np.ndarray, sample_rate: int, intervals: Sequence[PhoneInterval], frontend: Frontend
) -> tuple[np.ndarray, list[PhoneInterval]]:
    """Cuts SIL beyond `edge_silence_seconds` off both ends.

    waveform [S] at `sample_rate`; returns the part that stays and its intervals, which begin at 0 and end with it.
    """
    start, end = 0.0, len(waveform) / sample_rate
    spoken = [interval for interval in intervals if interval.phone != SIL]
    if spoken:
        start = max(start, spoken[0].start_s - frontend.edge_silence_seconds)
        end = min(end, spoken[-1].end_s + frontend.edge_silence_seconds)
    first, last = round(start * sample_rate), round(end * sample_rate)
    offset, length = first / sample_rate, (last - first) / sample_rate
    kept = [item for item in intervals if item.end_s > start and item.start_s < end]
    # Inner boundaries move with the waveform; the outer ones are its own edges, whatever whole samples make of them.
    starts = [0.0, *(item.start_s - offset for item in kept[1:])]
    ends = [*starts[1:], length]
    moved = [PhoneInterval(item.phone, begin, stop) for item, begin, stop in zip(kept, starts, ends, strict=True)]
    return waveform[first:last], moved


def _check_cover(intervals: Sequence[PhoneInterval], num_frames: int) -> None:
    if not intervals or num_frames < 1:
        raise UnusableError(
            "audio-too-short",
            f"found {len(intervals)} phone intervals and {num_frames} frames, expected at least one of each",
        )
    time = 0.0
    for interval in intervals:
        if abs(interval.start_s - time) > 1e-6 or interval.end_s < interval.start_s:
            raise UnusableError(
                "textgrid-overlap",
                f"the alignment has {interval.phone} at {interval.start_s:.3f} to {interval.end_s:.3f} s, expected it "
                f"to begin at {time:.3f} s where the phone before it ends",
            )
        time = interval.end_s
    # One frame of slack: the codec rounds up to whole frames, and resampling may round the length.
    if abs(time * FRAME_RATE - num_frames) > 1 + 1e-6:
        raise UnusableError(
            "textgrid-length",
            f"the alignment covers {time * FRAME_RATE:.1f} frames, expected {num_frames} frames as the codec has them",
        )


def _join_silences(
    intervals: Sequence[PhoneInterval], num_frames: int, frontend: Frontend
) -> tuple[list[str], list[float]]:
    """Phones that stay and the second at which each ends."""
    merged: list[PhoneInterval] = []
    for item in intervals:
        if item.phone == SIL and merged and merged[-1].phone == SIL:
            merged[-1] = PhoneInterval(SIL, merged[-1].start_s, item.end_s)
        else:
            merged.append(item)
    phones: list[str] = []
    ends: list[float] = []
    for index, item in enumerate(merged):
        if item.phone != SIL or _is_phone(item, index, len(merged), num_frames, frontend):
            phones.append(item.phone)
            ends.append(item.end_s)
        elif ends:
            ends[-1] = item.end_s
        # Leading silence that is no phone needs nothing: the next phone begins where the one before it ends, at 0.
    return phones, ends


def _is_phone(silence: PhoneInterval, index: int, count: int, num_frames: int, frontend: Frontend) -> bool:
    if not frontend.silence_as_phone:
        return False
    if 0 < index < count - 1:
        # Aligners count in steps of 10 ms, so a silence of exactly the limit must not fall to a rounding error.
        return silence.end_s - silence.start_s >= frontend.silence_min_seconds - 1e-6
    first = round(silence.start_s * FRAME_RATE)
    last = num_frames if index == count - 1 else round(silence.end_s * FRAME_RATE)
    return last - first >= 1
