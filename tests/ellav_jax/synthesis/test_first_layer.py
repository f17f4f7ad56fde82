"""Exact durations in the audio, whatever the layout; what the GAR was fed is the sequence that training would build."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig, build_sequence
from ellav_jax.synthesis.first_layer import Stretch, decode_stretches
from ellav_jax.synthesis.limits import NO_CAP
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.shapes import GarShape
from ellav_jax.vocabulary import NUM_CODES, PAD

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE, ROWS = GarShape(prefix=72, phones=8, frames=64), 50
GREEDY = SamplingConfig(temperature=0.0)
LAYOUTS = {
    "compact": LayoutConfig(),
    "compact, local advance 3": LayoutConfig(local_advance=3),
    "paper": LayoutConfig(order="paper"),
    "paper, local advance 2": LayoutConfig(order="paper", local_advance=2),
}


def _prompt(rng):
    durations = rng.integers(4, 9, rng.integers(2, 5))
    codes = rng.integers(0, NUM_CODES, (durations.sum(), 8)).astype(np.int32)
    return Prompt(rng.integers(0, 5, len(durations)).astype(np.int32), durations.astype(np.int32), codes)


def _told(rng, right=0):
    """A stretch of which every phone is told its frames: often 1 or 2, fewer than the local advance."""
    frames = np.array([rng.integers(1, 3 if short else 11) for short in rng.random(rng.integers(1, 7)) < 0.5])
    phones = rng.integers(0, 5, len(frames)).astype(np.int32)
    return Stretch(
        _prompt(rng), phones, frames, frames, int(rng.integers(99)), rng.integers(0, 5, right).astype(np.int32)
    )


@pytest.fixture(scope="module")
def decode(tiny_gar):
    def run(layout, stretches, sampling=GREEDY):
        model = (tiny_gar, layout, tiny_gar.vocabulary.num_phones)
        return decode_stretches(*model, stretches, SHAPE, sampling, batch_size=ROWS)

    return run


@pytest.fixture(scope="module")
def best_codes(tiny_gar):
    """Of a whole sequence: the likeliest code behind each position, by the full forward."""
    length = 2 * SHAPE.prefix

    @functools.cache
    def forward():
        positions = jnp.arange(length)[None]
        return jax.jit(
            lambda tokens, segments: tiny_gar.model(tokens, segments, positions)[0, :, :NUM_CODES].argmax(-1)
        )

    def run(inputs):
        room = (0, length - len(inputs))
        tokens = np.pad(inputs, room, constant_values=PAD)[None]
        return np.asarray(forward()(tokens, np.pad(np.ones(len(inputs), np.int32), room)[None]))[: len(inputs)]

    return run


@pytest.mark.parametrize("name", LAYOUTS)
def test_phones_told_their_frames_get_them_in_50_random_cases(name, decode):
    rng = np.random.default_rng(len(name))
    stretches = [_told(rng, right=case % 2 * 2) for case in range(ROWS)]
    for stretch, first in zip(stretches, decode(LAYOUTS[name], stretches, SamplingConfig()), strict=True):
        assert first.finished
        np.testing.assert_array_equal(stretch.left.durations_behind(first.durations), stretch.floors_N)
        assert len(first.codes_T) == stretch.floors_N.sum()
        assert first.durations.sum() == len(stretch.left.codes_Tx8) + len(first.codes_T)


@pytest.mark.parametrize("name", LAYOUTS)
def test_greedy_codes_are_the_likeliest_in_the_sequence_that_training_builds(name, tiny_gar, decode, best_codes):
    layout, rng = LAYOUTS[name], np.random.default_rng(7)
    stretches = [_told(rng, right=case % 2) for case in range(8)]
    for stretch, first in zip(stretches, decode(layout, stretches), strict=True):
        left, right = stretch.left, len(stretch.right_R)
        phones = np.concatenate([left.phones_P, stretch.phones_N, stretch.right_R])
        durations = np.concatenate([left.durations_P, stretch.floors_N, np.full(right, 9)])
        codes = np.concatenate([left.codes_Tx8[:, 0], first.codes_T, np.zeros(9 * right, np.int32)])
        sequence = build_sequence(phones, durations, codes, layout, tiny_gar.vocabulary)
        predicts_a_code = sequence.loss_mask_L & (sequence.targets_L < NUM_CODES)
        best_T = best_codes(sequence.inputs_L)[predicts_a_code]
        given, spoken = len(left.codes_Tx8), len(first.codes_T)
        np.testing.assert_array_equal(first.codes_T, best_T[given : given + spoken])


def test_floors_and_caps_hold_in_the_audio_and_leave_the_choice_between_to_the_model(decode):
    rng = np.random.default_rng(3)
    stretches = []
    for seed in range(ROWS):
        count = int(rng.integers(2, 7))
        floors = rng.integers(1, 4, count)
        caps = floors + rng.integers(0, 6, count)
        stretches.append(Stretch(_prompt(rng), rng.integers(0, 5, count).astype(np.int32), floors, caps, seed))
    found = set()
    for stretch, first in zip(stretches, decode(LAYOUTS["compact, local advance 3"], stretches), strict=True):
        spoken = stretch.left.durations_behind(first.durations)
        assert np.all(spoken <= stretch.caps_N)
        assert np.all(spoken >= stretch.floors_N)
        found |= set((spoken - stretch.floors_N)[stretch.caps_N > stretch.floors_N].tolist())
    assert len(found) > 2


def test_without_caps_a_sentence_is_cut_off_at_the_limit_on_frames(decode):
    rng = np.random.default_rng(4)
    stretch = Stretch(_prompt(rng), np.zeros(2, np.int32), np.full(2, 50), np.full(2, NO_CAP))
    first = decode(LAYOUTS["compact, local advance 3"], [stretch])[0]
    assert not first.finished
    assert len(first.codes_T) == SHAPE.frames
    assert stretch.left.durations_behind(first.durations).sum() == SHAPE.frames


def test_a_prompt_too_short_for_the_local_advance_is_refused(decode):
    prompt = Prompt(np.array([1, 2, 3], np.int32), np.ones(3, np.int32), np.zeros((3, 8), np.int32))
    stretch = Stretch(prompt, np.array([1, 2], np.int32), np.ones(2, int), np.ones(2, int))
    with pytest.raises(InputError, match="too short a prompt for a local advance of 3 frames"):
        decode(LAYOUTS["compact, local advance 3"], [stretch])
