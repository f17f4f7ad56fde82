"""The NAR's inputs, written out from the design: sums of embeddings, and what a frame must not know."""

import dataclasses

import jax
import numpy as np
import pytest

from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.nar import NUM_LAYERS, Nar, NarConfig, NarInputs

pytestmark = pytest.mark.usefixtures("quick_compilation")

PROMPT, FRAMES, PHONES = 4, 9, 3


def _inputs(stage, seed=0):
    """One row: 3 phones, 4 frames of prompt, 5 frames behind it, 2 of padding."""
    rng = np.random.default_rng(seed)
    phones = rng.integers(0, 5, PHONES)
    length = PHONES + FRAMES + 2
    at = np.arange(length)
    is_frame = (at >= PHONES) & (at < PHONES + FRAMES)
    track = np.concatenate([phones, np.repeat(phones, [2, 4, 3]), [0, 0]])
    codes = np.where(is_frame[:, None], rng.integers(0, 1024, (length, NUM_LAYERS)), 0)
    known = np.where(is_frame, np.where(at < PHONES + PROMPT, NUM_LAYERS, stage - 1), 0)
    real = at < PHONES + FRAMES
    one = NarInputs(track, is_frame, codes, known, np.full(length, stage), real.astype(np.int32), at * real)
    return jax.tree.map(lambda a: np.asarray(a)[None].astype(bool if a.dtype == bool else np.int32), one)


def _numpy(params, *names):
    for name in names:
        params = params[name]
    return np.asarray(params, np.float64)


def _expected_input(params, inputs, aligned_phones):
    """The sum that design and docstring name, position by position."""
    phone, stage, code = (_numpy(params, f"{name}_embedding") for name in ("phone", "stage", "code"))
    x = np.zeros((inputs.phones.shape[1], phone.shape[1]))
    for r in range(len(x)):
        s = inputs.stage[0, r]
        x[r] = stage[s - 2]
        if not inputs.is_frame[0, r]:
            x[r] += phone[inputs.phones[0, r]]
            continue
        if aligned_phones:
            x[r] += phone[inputs.phones[0, r]]
        in_prompt = r < PHONES + PROMPT
        for layer in range(1, NUM_LAYERS + 1):
            if in_prompt or layer < s:
                x[r] += code[layer - 1, inputs.codes[0, r, layer - 1]]
    return x * np.sqrt(x.shape[1])


@pytest.fixture(scope="module")
def make(tiny):
    made = {}

    def make(**choices):
        key = tuple(sorted(choices.items()))
        if key not in made:
            definition = ModelDefinition.of(lambda key: Nar(NarConfig(tiny("llama"), **choices), 5, key))
            params = jax.jit(definition.init)(jax.random.key(2))
            made[key] = definition, params, jax.jit(lambda inputs: definition.merge(params)(inputs))
        return made[key]

    return make


@pytest.mark.parametrize("aligned_phones", [True, False])
@pytest.mark.parametrize("stage", [2, 5, 8])
def test_a_position_is_the_sum_of_known_layers_phone_and_stage(make, aligned_phones, stage):
    definition, params, apply = make(aligned_phones=aligned_phones)
    inputs = _inputs(stage)
    x = _expected_input(params, inputs, aligned_phones)[None].astype(np.float32)
    transformer = definition.merge(params).transformer
    expected = jax.jit(transformer)(x, inputs.segment_ids, inputs.positions)
    real = slice(0, PHONES + FRAMES)  # what stands in the padding reaches nobody
    np.testing.assert_allclose(apply(inputs)[:, real], expected[:, real], rtol=0, atol=2e-5)


@pytest.mark.parametrize("stage", range(2, NUM_LAYERS + 1))
def test_layers_from_the_stage_up_do_not_reach_the_features_outside_the_prompt(make, stage):
    _, _, apply = make(aligned_phones=True)
    inputs = _inputs(stage)
    before = np.asarray(apply(inputs))

    def changed(frames, layers):
        codes = inputs.codes.copy()
        codes[0, frames, layers] = (codes[0, frames, layers] + 511) % 1024
        return np.asarray(apply(dataclasses.replace(inputs, codes=codes)))

    behind, prompt = slice(PHONES + PROMPT, PHONES + FRAMES), slice(PHONES, PHONES + PROMPT)
    np.testing.assert_array_equal(changed(behind, slice(stage - 1, None)), before)
    assert np.any(changed(behind, stage - 2) != before)
    assert np.any(changed(prompt, NUM_LAYERS - 1) != before)


def test_every_frame_sees_every_other(make):
    _, _, apply = make(aligned_phones=True)
    inputs = _inputs(3)
    codes = inputs.codes.copy()
    codes[0, PHONES + FRAMES - 1, 0] ^= 1
    moved = np.abs(np.asarray(apply(dataclasses.replace(inputs, codes=codes))) - np.asarray(apply(inputs))).max(-1)[0]
    assert np.all(moved[: PHONES + FRAMES] > 0)


def test_tied_heads_are_the_embedding_of_the_layer_they_predict(make):
    definition, params, _ = make(aligned_phones=True)
    model, x = definition.merge(params), np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)
    assert "heads" not in params
    for stage in range(2, NUM_LAYERS + 1):
        expected = x @ np.asarray(params["code_embedding"])[stage - 1].T
        np.testing.assert_allclose(model.logits(x, stage), expected, rtol=0, atol=1e-5)


def test_untied_heads_are_seven_matrices_of_their_own(make):
    definition, params, _ = make(aligned_phones=True, tied_heads=False)
    model, x = definition.merge(params), np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)
    assert params["heads"].shape == (7, 1024, 32)
    for stage in (2, 8):
        expected = x @ np.asarray(params["heads"])[stage - 2].T
        np.testing.assert_allclose(model.logits(x, stage), expected, rtol=0, atol=1e-5)
