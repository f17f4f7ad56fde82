"""Sequences and rows in plain Python against those that the JAX models are trained and decoded with."""

import numpy as np
import pytest
import torch

from ellav_jax.errors import InputError
from ellav_jax.export import torch_sequence as ours
from ellav_jax.hybrid_sequence import LayoutConfig, build_sequence
from ellav_jax.synthesis.first_layer import Stretch, _first_layer, _row
from ellav_jax.synthesis.limits import NO_CAP
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.vocabulary import Vocabulary

PHONES = 7
LAYOUTS = [
    LayoutConfig(order, global_advance, advance)
    for order in ("compact", "paper")
    for global_advance in (True, False)
    for advance in (0, 1, 3, 8)
] + [LayoutConfig("valle")]


def _layout(layout):
    return ours.Layout(layout.order, layout.global_advance, layout.local_advance)


def _utterance(rng):
    durations = rng.integers(1, 9, rng.integers(1, 7)).astype(np.int32)
    codes = rng.integers(0, 1024, (durations.sum(), 8)).astype(np.int32)
    return Prompt(rng.integers(0, PHONES, len(durations)).astype(np.int32), durations, codes)


def _ours(one):
    return ours.Utterance(one.phones_P.tolist(), one.durations_P.tolist(), torch.from_numpy(one.codes_Tx8))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tokens_targets_and_mask_are_those_of_training(layout):
    rng = np.random.default_rng(0)
    for _ in range(40):
        one = _utterance(rng)
        expected = build_sequence(one.phones_P, one.durations_P, one.codes_Tx8[:, 0], layout, Vocabulary(PHONES))
        tokens, targets, mask = ours.build_sequence(_ours(one), _layout(layout))
        np.testing.assert_array_equal(tokens, expected.inputs_L)
        np.testing.assert_array_equal(mask, expected.loss_mask_L)
        np.testing.assert_array_equal(targets, expected.targets_L)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_rows_and_durations_are_those_of_synthesis(layout):
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(80):
        prompt, phones = _utterance(rng), rng.integers(0, PHONES, rng.integers(1, 6)).astype(np.int32)
        floors = rng.integers(1, 5, len(phones))
        caps = np.where(rng.random(len(phones)) < 0.2, NO_CAP, floors + rng.integers(0, 6, len(phones)))
        stretch = Stretch(prompt, phones, floors, caps)
        arguments = (_ours(prompt), phones.tolist(), floors.tolist(), caps.tolist(), 99, _layout(layout))
        try:
            expected = _row(stretch, layout, Vocabulary(PHONES))
        except InputError:
            refused += 1
            with pytest.raises(ValueError, match="too short a prompt for a local advance"):
                ours.make_row(*arguments)
            continue
        row = ours.make_row(*arguments)
        for name in ("prefix", "fed", "floors", "caps", "started", "ahead"):
            np.testing.assert_array_equal(getattr(row, name), getattr(expected, name), err_msg=name)
        assert row.most_frames == 99

        # What a decoder may have said of it, to its end and cut off.
        spoken = rng.integers(row.floors, np.minimum(row.caps, np.array(row.floors) + 9) + 1)
        spoken[0] = max(spoken[0], row.started)
        if not layout.interleaved:
            spoken = spoken[:1]
        for finished in (True, False):
            said = spoken if finished else np.where(np.arange(len(spoken)) < len(spoken) // 2, spoken, 0)
            said[0] = max(said[0], row.started)
            frames = int(said.sum()) - row.started
            theirs = _first_layer(stretch, expected, layout, np.zeros(frames, np.int32), said, finished, 0)
            found = ours.audio_durations(
                row, said.tolist(), frames, finished, _ours(prompt), len(phones), _layout(layout)
            )
            np.testing.assert_array_equal(found, theirs.durations)
    assert refused < 60


def test_utterances_that_are_none_are_refused():
    codes = torch.zeros(4, 8)
    for phones, durations, given, message in (
        ([1], [3], codes, "last 3 frames, the codes 4"),
        ([1], [4], codes[:, :7], r"\[4, 7\], expected \[T, 8\]"),
        ([1, 2], [4], codes, "one duration for each phone"),
        ([], [], codes[:0], "at least one phone"),
    ):
        with pytest.raises(ValueError, match=message):
            ours.Utterance(phones, durations, given)
    cut_off = ours.Utterance([1, 2], [4, 0], codes)
    with pytest.raises(ValueError, match="phone 1 has no frame"):
        ours.build_sequence(cut_off, ours.Layout())
