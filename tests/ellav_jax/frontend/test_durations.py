"""Intervals → frames: sums, minimum, rounding, silence and edges."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.durations import frame_durations, trim_edges
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval

STEP = 0.01


def intervals_of(parts: list[tuple[str, int]]) -> list[PhoneInterval]:
    """Parts: phone, steps of 10 ms."""
    ends = list(itertools.accumulate(steps for _, steps in parts))
    return [
        PhoneInterval(phone, (end - steps) * STEP, end * STEP) for (phone, steps), end in zip(parts, ends, strict=True)
    ]


PARTS = st.lists(st.tuples(st.sampled_from(["SIL", "AA", "S", "T"]), st.integers(1, 30)), min_size=1, max_size=40)


@given(parts=PARTS, silence_as_phone=st.booleans(), limit=st.sampled_from([0.0, 0.05, 0.1, 0.3]))
def test_durations_sum_to_the_frames_and_are_at_least_one(
    frontend: Frontend, parts: list[tuple[str, int]], silence_as_phone: bool, limit: float
) -> None:
    frontend = dataclasses.replace(frontend, silence_as_phone=silence_as_phone, silence_min_seconds=limit)
    num_frames = int(np.ceil(sum(steps for _, steps in parts) * 0.75 - 1e-9))
    spoken = [phone for phone, _ in parts if phone != "SIL"]
    try:
        phones, durations = frame_durations(intervals_of(parts), num_frames, frontend)
    except UnusableError:
        assert len(parts) > num_frames or not spoken
        return
    assert durations.dtype == np.int32
    assert durations.sum() == num_frames
    assert durations.min() >= 1
    assert [phone for phone in phones if phone != "SIL"] == spoken
    assert ("SIL" in phones) <= silence_as_phone


@given(parts=st.lists(st.tuples(st.sampled_from(["AA", "S"]), st.integers(3, 30)), min_size=1, max_size=40))
def test_boundaries_are_the_nearest_frames_when_no_phone_is_shorter_than_two(
    frontend: Frontend, parts: list[tuple[str, int]]
) -> None:
    num_frames = int(np.ceil(sum(steps for _, steps in parts) * 0.75 - 1e-9))
    phones, durations = frame_durations(intervals_of(parts), num_frames, frontend)
    assert phones == [phone for phone, _ in parts]
    true_ends = np.cumsum([steps for _, steps in parts]) * 0.75
    assert np.abs(np.cumsum(durations) - true_ends)[:-1].max(initial=0) <= 0.5 + 1e-9


@given(parts=PARTS, limit=st.integers(0, 20))
def test_interior_sil_is_kept_from_the_limit_on(frontend: Frontend, parts: list[tuple[str, int]], limit: int) -> None:
    parts = [("AA", 10), *parts, ("S", 10)]
    num_frames = int(np.ceil(sum(steps for _, steps in parts) * 0.75 - 1e-9))
    merged = [
        (phone, sum(steps for _, steps in group)) if phone == "SIL" else None
        for phone, group in itertools.groupby(parts, key=lambda part: part[0])
    ]
    kept = [one for one in merged if one is not None and one[1] >= limit]
    assume(len(parts) <= num_frames)
    phones, _ = frame_durations(
        intervals_of(parts), num_frames, dataclasses.replace(frontend, silence_min_seconds=limit * STEP)
    )
    assert phones.count("SIL") == len(kept)


def test_short_interior_sil_joins_the_preceding_phone(frontend: Frontend) -> None:
    parts = [("SIL", 8), ("AA", 8), ("SIL", 4), ("S", 8), ("SIL", 20), ("S", 8), ("SIL", 4)]
    phones, durations = frame_durations(intervals_of(parts), 45, frontend)
    assert phones == ["SIL", "AA", "S", "SIL", "S", "SIL"]
    assert durations.tolist() == [6, 9, 6, 15, 6, 3]


def test_without_silence_leading_sil_joins_the_following_phone(frontend: Frontend) -> None:
    parts = [("SIL", 8), ("AA", 8), ("SIL", 40), ("S", 8), ("SIL", 4)]
    phones, durations = frame_durations(intervals_of(parts), 51, dataclasses.replace(frontend, silence_as_phone=False))
    assert phones == ["AA", "S"]
    assert durations.tolist() == [42, 9]


def test_edge_sil_below_a_frame_is_no_phone(frontend: Frontend) -> None:
    intervals = [
        PhoneInterval("SIL", 0.0, 0.005),
        PhoneInterval("AA", 0.005, 0.1),
        PhoneInterval("SIL", 0.1, 0.104),
    ]
    phones, durations = frame_durations(intervals, 8, frontend)
    assert phones == ["AA"]
    assert durations.tolist() == [8]


def test_adjacent_equal_phones_stay_two(frontend: Frontend) -> None:
    phones, durations = frame_durations(intervals_of([("S", 8), ("S", 8)]), 12, frontend)
    assert phones == ["S", "S"]
    assert durations.tolist() == [6, 6]


def test_as_many_phones_as_frames_get_one_each_and_one_more_is_refused(frontend: Frontend) -> None:
    parts = [("AA", 1)] * 7 + [("S", 3)]
    _, durations = frame_durations(intervals_of(parts), 8, frontend)
    assert durations.tolist() == [1] * 8
    with pytest.raises(UnusableError, match="9 phones, expected at most one a frame for 8 frames") as error:
        frame_durations(intervals_of([("AA", 1)] * 8 + [("S", 2)]), 8, frontend)
    assert error.value.fault == "too-many-phones"


@pytest.mark.parametrize(
    ("intervals", "num_frames", "message"),
    [
        ([], 5, "0 phone intervals"),
        (intervals_of([("AA", 40)]), 33, "30.0 frames, expected 33 frames"),
        ([PhoneInterval("AA", 0.0, 0.1), PhoneInterval("S", 0.2, 0.4)], 30, "expected it to begin at 0.100 s"),
        ([PhoneInterval("AA", 0.1, 0.4)], 30, "begin at 0.000 s"),
    ],
)
def test_intervals_that_do_not_cover_the_frames_are_refused(
    frontend: Frontend, intervals: list[PhoneInterval], num_frames: int, message: str
) -> None:
    with pytest.raises(UnusableError, match=message):
        frame_durations(intervals, num_frames, frontend)


def test_silence_alone_is_refused_when_it_is_no_phone(frontend: Frontend) -> None:
    with pytest.raises(UnusableError, match="nothing but silence"):
        frame_durations(intervals_of([("SIL", 40)]), 30, dataclasses.replace(frontend, silence_as_phone=False))


@given(
    lead=st.integers(0, 80),
    tail=st.integers(0, 80),
    odd=st.integers(0, 200),
    sample_rate=st.sampled_from([16000, 24000, 44100]),
)
def test_trimming_leaves_the_edge_rule_of_silence_and_all_speech(
    frontend: Frontend, lead: int, tail: int, odd: int, sample_rate: int
) -> None:
    edges = [("SIL", lead)] if lead else []
    parts = [*edges, ("AA", 13), ("SIL", 50), ("S", 7), *([("SIL", tail)] if tail else [])]
    length = round(sum(steps for _, steps in parts) * STEP * sample_rate) + odd
    waveform = np.arange(length, dtype=np.float32)
    intervals = intervals_of(parts)
    intervals[-1] = intervals[-1]._replace(end_s=length / sample_rate)
    trimmed, moved = trim_edges(waveform, sample_rate, intervals, frontend)
    assert moved[0].start_s == 0
    assert moved[-1].end_s == pytest.approx(len(trimmed) / sample_rate, abs=1e-9)
    for before, after in itertools.pairwise(moved):
        assert before.end_s == after.start_s
    for edge in (moved[0], moved[-1]):
        if edge.phone == "SIL":
            assert edge.end_s - edge.start_s <= frontend.edge_silence_seconds + 1 / sample_rate
    # The samples under each phone are the same as before.
    for phone in ("AA", "S"):
        old = next(item for item in intervals if item.phone == phone)
        new = next(item for item in moved if item.phone == phone)
        assert trimmed[round(new.start_s * sample_rate)] == waveform[round(old.start_s * sample_rate)]
    assert len(trimmed) <= length
    if lead * STEP <= frontend.edge_silence_seconds and tail == 0:
        assert len(trimmed) == length
    frame_durations(moved, int(np.ceil(len(trimmed) / sample_rate * 75 - 1e-9)), frontend)


def test_trimming_twice_changes_nothing_more(frontend: Frontend) -> None:
    intervals = intervals_of([("SIL", 40), ("AA", 13), ("SIL", 60)])
    once = trim_edges(np.zeros(113 * 240, np.float32), 24000, intervals, frontend)
    twice = trim_edges(once[0], 24000, once[1], frontend)
    assert len(once[0]) == (15 + 13 + 15) * 240
    assert len(twice[0]) == len(once[0])
    assert [item.phone for item in twice[1]] == ["SIL", "AA", "SIL"]
    assert [item.end_s for item in twice[1]] == pytest.approx([0.15, 0.28, 0.43])
