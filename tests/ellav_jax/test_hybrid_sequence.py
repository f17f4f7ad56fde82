"""Hybrid sequences against a definition written out phone by phone, and the properties that the design promises."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ellav_jax.hybrid_sequence import (
    HybridSequence,
    LayoutConfig,
    advance_durations,
    build_sequence,
    decoding_prefix,
    parse_sequence,
    restore_durations,
)
from ellav_jax.vocabulary import BOS, EOP, EOS, FIRST_PHONE, Vocabulary

VOCABULARY = Vocabulary(5)  # few phones, so that equal neighbours are frequent

interleaved_layouts = st.builds(
    LayoutConfig,
    order=st.sampled_from(["compact", "paper"]),
    global_advance=st.booleans(),
    local_advance=st.integers(0, 6),
)
layouts = st.one_of(interleaved_layouts, st.just(LayoutConfig(order="valle")))


@st.composite
def utterances(draw):
    durations = np.array(draw(st.lists(st.integers(1, 9), min_size=1, max_size=12)))
    phones = np.array(draw(st.lists(st.integers(0, 4), min_size=len(durations), max_size=len(durations))))
    seed = draw(st.integers(0, 2**32 - 1))
    return phones, durations, np.random.default_rng(seed).integers(0, 1024, durations.sum())


def written_out(phones, durations, codes, layout):
    """(input, target or None) pairs, phone by phone, straight from the definition in the design."""
    full = []  # (token, is it predicted)
    if layout.global_advance:
        full += [(FIRST_PHONE + p, False) for p in phones]
    full += [(BOS, False)]
    if layout.order == "valle":
        full += [(c, True) for c in codes] + [(EOS, True)]
        return [(a, b if predicted else None) for (a, _), (b, predicted) in itertools.pairwise(full)]
    end, true_end, start, n = 0, 0, 0, len(phones)
    closing = []
    for i, (phone, duration) in enumerate(zip(phones, durations, strict=True)):
        true_end += duration
        end = max(true_end - layout.local_advance, start + 1) if i < n - 1 else len(codes)
        full += [(FIRST_PHONE + phone, False)] + [(c, True) for c in codes[start:end]] + [(EOP, True)]
        closing.append(len(full) - 1)
        start = end
    full += [(EOS, True)]
    pairs = [(a, b if predicted else None) for (a, _), (b, predicted) in itertools.pairwise(full)]
    if layout.order == "compact":  # EOP leaves the inputs; the last one's target, EOS, moves onto the frame before it
        for at in closing[:-1][::-1]:
            del pairs[at]
        last = pairs.pop()
        assert last == (EOP, EOS)
        pairs[-1] = (pairs[-1][0], EOS)
    return pairs


@given(utterances(), layouts)
def test_sequence_is_what_the_definition_writes_out(utterance, layout):
    sequence = build_sequence(*utterance, layout, VOCABULARY)
    pairs = written_out(*utterance, layout)
    assert sequence.inputs_L.tolist() == [a for a, _ in pairs]
    assert sequence.loss_mask_L.tolist() == [b is not None for _, b in pairs]
    assert sequence.targets_L[sequence.loss_mask_L].tolist() == [b for _, b in pairs if b is not None]


@given(utterances(), layouts)
def test_sequence_of_the_inverse_is_the_sequence(utterance, layout):
    sequence = build_sequence(*utterance, layout, VOCABULARY)
    phones, durations, codes = parse_sequence(sequence, layout)
    np.testing.assert_array_equal(phones, utterance[0])
    np.testing.assert_array_equal(codes, utterance[2])
    if layout.interleaved:
        again = build_sequence(phones, durations, codes, layout, VOCABULARY)
        np.testing.assert_array_equal(again.inputs_L, sequence.inputs_L)
        np.testing.assert_array_equal(again.targets_L, sequence.targets_L)


@given(utterances(), interleaved_layouts)
def test_durations_come_back_exactly_where_no_phone_is_clipped(utterance, layout):
    _, durations, _ = utterance
    k, ends = layout.local_advance, np.cumsum(durations)
    _, restored, _ = parse_sequence(build_sequence(*utterance, layout, VOCABULARY), layout)
    assert restored.sum() == durations.sum() and restored.min() >= 1
    unclipped = np.diff(np.maximum(ends - k, 0)[:-1], prepend=0).min(initial=1) >= 1
    room_at_the_end = np.all(ends[:-1] <= ends[-1] - np.arange(len(ends) - 1, 0, -1))
    if durations[0] > k and unclipped and room_at_the_end:
        np.testing.assert_array_equal(restored, durations)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 6))
def test_boundaries_move_by_the_recursion_of_the_design(durations, k):
    ends, previous, expected = np.cumsum(durations), 0, []
    for i, end in enumerate(ends):
        moved = max(end - k, previous + 1) if i < len(ends) - 1 else end
        expected.append(moved - previous)
        previous = moved
    advanced = advance_durations(np.array(durations), k)
    assert advanced.tolist() == expected
    np.testing.assert_array_equal(advance_durations(restore_durations(advanced, k), k), advanced)


@given(utterances(), layouts)
def test_counts_of_positions_and_of_losses_are_the_closed_form(utterance, layout):
    n, frames = len(utterance[0]), len(utterance[2])
    sequence = build_sequence(*utterance, layout, VOCABULARY)
    assert len(sequence) == layout.num_inputs(n, frames)
    assert sequence.loss_mask_L.sum() == layout.num_targets(n, frames)


def test_ten_seconds_take_the_positions_the_design_names():
    assert LayoutConfig("paper").num_inputs(105, 750) == 1066
    assert LayoutConfig("compact").num_inputs(105, 750) == 961
    assert LayoutConfig("valle").num_inputs(105, 750) == 856


def test_adjacent_equal_phones_stay_two():
    layout = LayoutConfig("compact")
    sequence = build_sequence([3, 3], [2, 2], [1, 2, 3, 4], layout, VOCABULARY)
    phones, durations, _ = parse_sequence(sequence, layout)
    assert phones.tolist() == [3, 3]
    assert durations.tolist() == [2, 2]


@given(utterances(), layouts)
def test_loss_falls_on_codes_eop_and_eos_only_and_never_on_the_way_to_a_phone(utterance, layout):
    sequence = build_sequence(*utterance, layout, VOCABULARY)
    assert sequence.targets_L[sequence.loss_mask_L].max() < 1026
    before_a_phone = np.append(sequence.inputs_L[1:] >= FIRST_PHONE, False)
    if layout.order == "compact":  # a phone follows an EOP target, or stands in the prefix
        assert np.all(sequence.targets_L[before_a_phone & sequence.loss_mask_L] == EOP)
    else:
        assert not np.any(before_a_phone & sequence.loss_mask_L)


@given(utterances(), layouts, st.data())
def test_a_changed_sequence_is_refused(utterance, layout, data):
    sequence = build_sequence(*utterance, layout, VOCABULARY)
    at = data.draw(st.sampled_from(np.flatnonzero(sequence.loss_mask_L).tolist()))
    targets = sequence.targets_L.copy()
    targets[at] = (targets[at] + 1) % 1026
    with pytest.raises(ValueError, match=f"position {at}"):
        parse_sequence(HybridSequence(sequence.inputs_L, targets, sequence.loss_mask_L), layout)


@pytest.mark.parametrize(
    ("phones", "durations", "codes", "message"),
    [
        ([1, 2], [3], [1, 2, 3], "2 phones but 1 durations"),
        ([1, 2], [3, 0], [1, 2, 3], "needs at least 1"),
        ([1, 2], [3, 1], [1, 2, 3], "alignment covers 4 frames, codes have 3"),
        ([], [], [], "at least one phone"),
        ([9], [1], [1], "inventory of 5 phones"),
    ],
)
def test_parts_that_disagree_are_refused(phones, durations, codes, message):
    with pytest.raises(ValueError, match=message):
        build_sequence(phones, durations, codes, LayoutConfig(), VOCABULARY)


def test_layouts_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="local_advance"):
        LayoutConfig(local_advance=-1)
    with pytest.raises(ValueError, match="valle"):
        LayoutConfig(order="valle", global_advance=False)


@given(utterances(), layouts, st.data())
def test_decoding_prefix_is_the_beginning_of_the_whole_sequence(utterance, layout, data):
    phones, durations, codes = utterance
    if len(phones) < 2:
        return
    at = data.draw(st.integers(1, len(phones) - 1))
    frames = int(durations[:at].sum())
    prefix, advanced = decoding_prefix(phones[:at], durations[:at], codes[:frames], phones[at:], layout, VOCABULARY)
    whole = build_sequence(*utterance, layout, VOCABULARY)
    shared = whole.inputs_L[: len(prefix)]
    k = layout.local_advance
    if (
        durations[at] > k or not layout.interleaved
    ):  # else later phones begin within the prompt, which decoding can't know
        np.testing.assert_array_equal(prefix, shared)
        assert np.sum(prefix < 1024) == frames
        if layout.interleaved:
            np.testing.assert_array_equal(advanced[:-1], advance_durations(durations, k)[:at])
            assert advanced.sum() == frames
