"""Packing plans: every utterance once an epoch, rows constant, and as few as a plain packer needs."""

import collections
import functools
import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.packing import PackingPlan, pack_histogram
from data_pipelines.synthetic import sample_lengths
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig

lengths_and_row = st.integers(10, 60).flatmap(
    lambda row: st.tuples(st.lists(st.integers(1, row), min_size=1, max_size=80), st.just(row))
)
few_lengths_and_row = st.integers(10, 60).flatmap(
    lambda row: st.tuples(st.lists(st.integers(1, row), min_size=1, max_size=8), st.just(row))
)


def _best_fit_decreasing(lengths, row_length):
    """Rows that the textbook algorithm needs, one utterance at a time."""
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda i: rooms[i])] -= length
        else:
            rooms.append(row_length - length)
    return len(rooms)


def _fewest_rows(lengths, row_length):
    """The least number of rows there is, by trying all subsets."""

    @functools.cache
    def needed(rest):  # a set of utterances as bits → (rows, least that the last row may hold)
        if not rest:
            return 0, row_length
        found = []
        for i, length in enumerate(lengths):
            if rest >> i & 1:
                rows, used = needed(rest & ~(1 << i))
                found.append((rows, used + length) if used + length <= row_length else (rows + 1, length))
        return min(found)

    return needed((1 << len(lengths)) - 1)[0]


def _epoch(plan, epoch):
    rows = [plan.row(epoch * plan.rows_per_epoch + i) for i in range(plan.rows_per_epoch)]
    assert all(found == epoch for found, _ in rows)
    return [utterances.tolist() for _, utterances in rows]


@given(lengths_and_row)
def test_shapes_hold_every_length_and_overflow_nowhere(case):
    lengths, row_length = case
    shapes = pack_histogram(np.array(lengths), row_length)
    held = collections.Counter()
    for shape, rows in shapes:
        assert rows > 0
        assert sum(shape) <= row_length
        held.update({length: rows * shape.count(length) for length in set(shape)})
    assert held == collections.Counter(lengths)


@given(lengths_and_row)
def test_as_many_rows_as_best_fit_decreasing_needs(case):
    lengths, row_length = case
    rows = sum(rows for _, rows in pack_histogram(np.array(lengths), row_length))
    assert rows == _best_fit_decreasing(lengths, row_length)
    assert rows >= -(-sum(lengths) // row_length)


@settings(max_examples=50)
@given(few_lengths_and_row)
def test_no_further_from_the_fewest_rows_than_the_theorem_says(case):
    lengths, row_length = case
    rows = sum(rows for _, rows in pack_histogram(np.array(lengths), row_length))
    fewest = _fewest_rows(lengths, row_length)
    assert fewest <= rows <= 1.5 * fewest  # Simchi-Levi 1994, for best-fit decreasing


@settings(max_examples=50)
@given(lengths_and_row, st.integers(0, 5))
def test_each_epoch_has_every_utterance_once_and_as_many_rows(case, seed):
    lengths, row_length = case
    plan = PackingPlan(np.array(lengths), row_length, seed)
    for epoch in (0, 1, 7):
        rows = _epoch(plan, epoch)
        assert sorted(itertools.chain(*rows)) == list(range(len(lengths)))
        assert all(sum(lengths[i] for i in row) <= row_length for row in rows)
        assert all(rows)


@settings(max_examples=50)
@given(lengths_and_row, st.randoms())
def test_the_rows_shapes_do_not_depend_on_the_utterances_order(case, random):
    lengths, row_length = case
    shuffled = random.sample(lengths, len(lengths))
    assert sorted(pack_histogram(np.array(lengths), row_length)) == sorted(
        pack_histogram(np.array(shuffled), row_length)
    )


def _speech_lengths(count, seed=0):
    return np.clip(np.random.default_rng(seed).lognormal(6, 0.5, count), 60, 2000).astype(np.int64)


def test_speech_fills_rows_well():
    plan = PackingPlan(_speech_lengths(5000), 2048, seed=0)
    assert plan.fill > 0.98
    assert plan.rows_per_epoch == _best_fit_decreasing(plan.lengths_N.tolist(), 2048)
    assert plan.fill == plan.lengths_N.sum() / (plan.rows_per_epoch * 2048)


@pytest.mark.parametrize("kind", ["compact", "paper", "nar"])
def test_rows_of_4096_positions_are_full_for_speech_shaped_as_librispeech(kind):
    phones_N, frames_N = sample_lengths(100_000)
    lengths_N = phones_N + frames_N if kind == "nar" else LayoutConfig(order=kind).num_inputs(phones_N, frames_N)
    plan = PackingPlan(lengths_N, 4096, seed=0)
    assert plan.fill > 0.98
    assert plan.too_long == 0
    assert plan.rows_per_epoch < 1.02 * lengths_N.sum() / 4096


def test_epochs_permute_equal_lengths_and_rows():
    lengths = np.repeat([10, 20, 30], 20)
    plan = PackingPlan(lengths, 60, seed=3)
    first, second = _epoch(plan, 0), _epoch(plan, 1)
    neighbours = [{frozenset(row) for row in rows} for rows in (first, second)]
    assert neighbours[0] != neighbours[1]
    shapes = [[tuple(lengths[row]) for row in rows] for rows in (first, second)]
    assert collections.Counter(shapes[0]) == collections.Counter(shapes[1])
    assert shapes[0] != shapes[1]


def test_a_plan_is_a_function_of_lengths_and_seed():
    lengths = _speech_lengths(100)
    rows = [PackingPlan(lengths, 2048, seed).row(3)[1].tolist() for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


def test_the_plan_is_the_same_on_every_machine_and_with_every_numpy():
    plan = PackingPlan(np.arange(1, 3001, dtype=np.int32) * 7 % 1009 + 50, 2048, seed=7)
    rows = [plan.row(index)[1] for index in range(2 * plan.rows_per_epoch)]
    digest = hashlib.sha256(b"".join(len(row).to_bytes(2, "little") + row.astype("<i4").tobytes() for row in rows))
    # A change of this number is a change of what a resumed run trains on.
    assert digest.hexdigest()[:16] == "c6ad7836a40cde48"


@pytest.mark.parametrize("row_length", [2048, 1 << 16, 1 << 20])
def test_rows_of_any_length_hold_each_utterance_once(row_length):
    lengths = _speech_lengths(300) * (row_length // 2048)
    plan = PackingPlan(lengths, row_length, seed=0)
    rows = _epoch(plan, 1)
    assert sorted(itertools.chain(*rows)) == list(range(300))
    assert max(sum(lengths[row]) for row in rows) <= row_length


def test_threads_that_meet_at_an_epochs_beginning_permute_it_once(monkeypatch):
    plan = PackingPlan(_speech_lengths(2000), 2048, seed=0)
    permuted = []
    permute = plan._permute
    monkeypatch.setattr(plan, "_permute", lambda epoch: permuted.append(epoch) or permute(epoch))
    indices = [epoch * plan.rows_per_epoch + place for epoch in (0, 1) for place in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = [row.tolist() for _, row in pool.map(plan.row, indices)]
    assert permuted == [0, 1]
    assert found == _epoch(plan, 0)[:40] + _epoch(plan, 1)[:40]


def test_rows_are_reached_directly_in_any_order():
    plan = PackingPlan(_speech_lengths(60), 2048, seed=0)
    expected = _epoch(plan, 5)
    for place in (plan.rows_per_epoch - 1, 0, 2):
        plan.row(place)  # another epoch in between
        epoch, utterances = plan.row(5 * plan.rows_per_epoch + place)
        assert (epoch, utterances.tolist()) == (5, expected[place])


def test_too_long_utterances_are_left_out_and_counted():
    plan = PackingPlan(np.array([5, 101, 100, 7, 250]), 100, seed=0)
    assert plan.too_long == 2
    assert sorted(itertools.chain(*_epoch(plan, 0))) == [0, 2, 3]


@pytest.mark.parametrize("lengths, shortest", [([101, 300], 101), ([], 0)])
def test_a_plan_of_nothing_is_refused(lengths, shortest):
    with pytest.raises(InputError, match=f"no utterance fits a row of 100 positions .*{shortest}"):
        PackingPlan(np.array(lengths, np.int64), 100, seed=0)
