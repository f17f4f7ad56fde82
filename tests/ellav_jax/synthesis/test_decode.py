"""Decoding on the device against slow loops in Python that run the whole model for every token."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.hybrid_sequence import HybridSequence, LayoutConfig, decoding_prefix, parse_sequence, restore_durations
from ellav_jax.models.nar import NUM_LAYERS, NarInputs
from ellav_jax.synthesis.decode import GarRequest, decode_gar, decode_nar
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.vocabulary import EOP, EOS, NUM_CODES, PAD

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYOUTS = {
    "compact": LayoutConfig(),
    "compact, local advance 2": LayoutConfig(local_advance=2),
    "compact, local advance only": LayoutConfig(global_advance=False, local_advance=1),
    "paper": LayoutConfig(order="paper"),
    "paper, local advance 2": LayoutConfig(order="paper", local_advance=2),
    "valle": LayoutConfig(order="valle"),
}
PREFIX, PHONES, FRAMES = 40, 6, 24
# Two ragged sentences: phones and durations of the prompt, phones to speak, floors and caps.
SENTENCES = [
    ([1, 2, 0], [4, 3, 5], [3, 3, 1, 4, 2], [1, 2, 1, 3, 1], [5, 4, 1, 6, 3]),
    ([4, 2], [6, 2], [0, 1, 2], [1, 1, 1], [9, 9, 9]),
]


def _sentence(index, layout, vocabulary):
    prompt, durations, phones, floor, cap = (np.array(values) for values in SENTENCES[index])
    codes = np.random.default_rng(index).integers(0, 1024, durations.sum())
    prefix, advanced = decoding_prefix(prompt, durations, codes, phones, layout, vocabulary)
    # In the sequence the last phone has the frames by which the one before it ended early, too.
    floor[-1] += layout.local_advance
    cap[-1] += layout.local_advance
    if not layout.interleaved:
        phones, floor, cap = phones[:1], floor[:1], np.array([cap.sum()])
    return {
        "prefix": prefix,
        "phones": vocabulary.phone_tokens(phones),
        "floor": floor,
        "cap": cap,
        "started": int(advanced[-1]),
        "advanced": advanced,
        "prompt_frames": len(codes),
    }


def _pad(values, size, fill):
    return np.pad(np.asarray(values, np.int32), (0, size - len(values)), constant_values=fill)


def _request(sentences, temperature=0.0, seeds=None, **more):
    seeds = range(len(sentences)) if seeds is None else seeds
    return GarRequest(
        prefix_BxS=np.stack([_pad(s["prefix"], PREFIX, PAD) for s in sentences]),
        prefix_length_B=np.array([len(s["prefix"]) for s in sentences], np.int32),
        phones_BxN=np.stack([_pad(s["phones"], PHONES, PAD) for s in sentences]),
        num_phones_B=np.array([len(s["phones"]) for s in sentences], np.int32),
        floor_BxN=np.stack([_pad(s["floor"], PHONES, 1) for s in sentences]),
        cap_BxN=np.stack([_pad(s["cap"], PHONES, 1) for s in sentences]),
        started_B=np.array([s["started"] for s in sentences], np.int32),
        keys_B=jax.vmap(jax.random.key)(np.array(seeds)),
        sampling=SamplingConfig(temperature, 0.9, **more).settings(),
    )


@pytest.fixture(scope="module")
def decode(tiny_gar):
    def run(layout, sentences, temperature=0.0, seeds=None, params=None, max_frames=FRAMES, **more):
        request = _request(sentences, temperature, seeds, **more)
        params = tiny_gar.params if params is None else params
        result = decode_gar(tiny_gar.definition, params, request, eop_input=layout.eop_input, max_frames=max_frames)
        return jax.device_get(result)

    return run


@pytest.fixture(scope="module")
def whole(tiny_gar):
    """Logits behind the last of the tokens given, by the full forward over all of them."""
    length = PREFIX + FRAMES + 2 * PHONES

    @jax.jit
    def forward(tokens, segment_ids):
        return tiny_gar.model(tokens[None], segment_ids[None], jnp.arange(length)[None])[0]

    return lambda tokens: np.asarray(
        forward(_pad(tokens, length, PAD), _pad(np.ones(len(tokens)), length, 0))[len(tokens) - 1]
    )


def _slow_greedy(whole, sentence, layout, max_frames=FRAMES):
    """The design's grammar by hand. → codes, durations in the sequence, whether it ended by itself."""
    tokens, codes, durations, pointer = list(sentence["prefix"]), [], [sentence["started"]], 0
    while len(codes) < max_frames:
        logits, last = whole(tokens), pointer == len(sentence["phones"]) - 1
        allowed = np.zeros(1026, bool)
        allowed[:NUM_CODES] = durations[-1] < sentence["cap"][pointer]
        closing = EOP if layout.eop_input or not last else EOS
        allowed[closing] = durations[-1] >= sentence["floor"][pointer]
        chosen = int(np.where(allowed, logits, -np.inf).argmax())
        if chosen < NUM_CODES:
            codes.append(chosen)
            durations[-1] += 1
            tokens.append(chosen)
        elif last:
            return codes, durations, True
        else:
            tokens += [EOP] if layout.eop_input else []
            pointer += 1
            tokens.append(sentence["phones"][pointer])
            durations.append(0)
    return codes, durations, False


@pytest.mark.parametrize("name", LAYOUTS)
def test_greedy_decoding_is_the_slow_loops_for_ragged_sentences(name, tiny_gar, decode, whole):
    layout = LAYOUTS[name]
    sentences = [_sentence(index, layout, tiny_gar.vocabulary) for index in range(2)]
    result = decode(layout, sentences)
    freely_closed = 0
    for row, sentence in enumerate(sentences):
        codes, durations, finished = _slow_greedy(whole, sentence, layout)
        assert result.codes_BxF[row, : result.num_frames_B[row]].tolist() == codes
        assert result.durations_BxN[row, : len(durations)].tolist() == durations
        assert result.durations_BxN[row, len(durations) :].sum() == 0
        assert bool(result.finished_B[row]) is finished
        freely_closed += sum(f < d < c for f, d, c in zip(sentence["floor"], durations, sentence["cap"], strict=False))
    assert freely_closed  # some phone was ended by the model, not by its limits


@pytest.mark.parametrize("name", ["compact, local advance 2", "paper"])
def test_a_sentence_in_a_batch_is_the_sentence_alone(name, tiny_gar, decode):
    layout = LAYOUTS[name]
    sentences = [_sentence(index, layout, tiny_gar.vocabulary) for index in range(2)]
    together = decode(layout, sentences, temperature=1.0, seeds=[11, 12])
    for row, sentence in enumerate(sentences):
        # Alone, in both rows of a batch of the same shape.
        alone = decode(layout, [sentence] * 2, temperature=1.0, seeds=[11 + row, 99])
        for field in ("codes_BxF", "num_frames_B", "durations_BxN", "finished_B"):
            np.testing.assert_array_equal(getattr(alone, field)[0], getattr(together, field)[row])
        assert np.any(alone.codes_BxF[0] != alone.codes_BxF[1])  # the other key draws otherwise


def test_the_first_code_that_comes_again_is_drawn_anew(tiny_gar, decode):
    layout = LAYOUTS["compact"]
    sentences = [_sentence(index, layout, tiny_gar.vocabulary) for index in range(2)]
    # Of little more than the phone and the last code, so that codes come again.
    params = tiny_gar.params | {"head": {"kernel": tiny_gar.params["head"]["kernel"].at[:, 7:NUM_CODES].set(-1.0)}}
    plain, aware = (
        decode(layout, sentences, temperature=1.0, params=params, top_k=1, **more)
        for more in ({}, {"repetition_window": 64, "repetition_share": 0.0})
    )
    for row in range(2):
        codes = plain.codes_BxF[row, : plain.num_frames_B[row]].tolist()
        again = next(place for place, code in enumerate(codes) if code in codes[:place])
        np.testing.assert_array_equal(aware.codes_BxF[row, :again], codes[:again])
        assert aware.codes_BxF[row, again] != codes[again]


@pytest.mark.parametrize("name", ["compact", "paper, local advance 2"])
def test_no_weights_can_break_the_grammar(name, tiny_gar, decode):
    layout = LAYOUTS[name]
    sentences = [_sentence(index, layout, tiny_gar.vocabulary) for index in range(2)]
    for seed in range(8):
        noise = jax.random.normal(jax.random.key(seed), tiny_gar.params["head"]["kernel"].shape)
        # Ever louder heads, of which some hardly leave EOP or EOS a chance and some nothing else.
        scale = jnp.ones(1026).at[jnp.array([EOP, EOS])].set([0.0, 50.0][seed % 2])
        params = tiny_gar.params | {"head": {"kernel": noise * 3.0**seed * scale}}
        result = decode(layout, sentences, temperature=1.0, seeds=[seed, seed + 100], params=params)
        for row, sentence in enumerate(sentences):
            n, frames = len(sentence["phones"]), int(result.num_frames_B[row])
            durations, codes = result.durations_BxN[row, :n], result.codes_BxF[row, :frames]
            assert codes.min() >= 0 and codes.max() < NUM_CODES
            assert durations.sum() == frames + sentence["started"]
            assert np.all(durations <= np.maximum(sentence["cap"], [sentence["started"], *[0] * (n - 1)]))
            if not result.finished_B[row]:
                assert frames == FRAMES
                continue
            assert np.all(durations >= sentence["floor"])
            all_durations = restore_durations(np.append(sentence["advanced"][:-1], durations), layout.local_advance)
            assert all_durations.min() >= 1
            assert all_durations.sum() == sentence["prompt_frames"] + frames


@pytest.mark.parametrize("name", ["compact", "compact, local advance 2"])
def test_decoded_tokens_and_prefix_make_a_sequence_of_the_layout(name, tiny_gar, decode):
    """What was fed, put together again, is what training would have built."""
    layout = LAYOUTS[name]
    sentence = _sentence(0, layout, tiny_gar.vocabulary)
    result = decode(layout, [sentence, sentence])
    assert result.finished_B[0]
    codes, body = iter(result.codes_BxF[0].tolist()), list(sentence["prefix"])
    for index, phone in enumerate(sentence["phones"]):
        body += [phone] if index else []
        body += itertools.islice(codes, int(result.durations_BxN[0, index]) - (0 if index else sentence["started"]))
    inputs = np.array(body, np.int32)
    begin = int(np.argmax(inputs == 1026)) + 1
    loss_mask = np.arange(len(inputs)) >= begin
    targets = np.append(inputs[1:], EOS)
    targets = np.where(loss_mask, np.where(targets > EOS, EOP, targets), 0)
    phones, _, _ = parse_sequence(HybridSequence(inputs, targets, loss_mask), layout)
    assert phones.tolist() == [*SENTENCES[0][0], *SENTENCES[0][2]]


def test_decoding_stops_at_its_limit_of_frames(tiny_gar, decode):
    layout = LAYOUTS["compact"]
    sentence = _sentence(0, layout, tiny_gar.vocabulary) | {"floor": np.full(5, 20), "cap": np.full(5, 30)}
    result = decode(layout, [sentence, sentence])
    assert result.num_frames_B.tolist() == [FRAMES, FRAMES]
    assert not result.finished_B.any()
    assert 20 <= result.durations_BxN[0, 0] <= FRAMES
    assert result.durations_BxN[0].sum() == FRAMES


def _primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name, equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(inner, "jaxpr"):
                    yield from _primitives(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from _primitives(inner)


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_a_sentence_is_one_loop_on_the_device_that_asks_the_host_nothing(name, tiny_gar):
    layout = LAYOUTS[name]
    request = _request([_sentence(0, layout, tiny_gar.vocabulary)])
    jaxpr = jax.make_jaxpr(
        lambda params, request: decode_gar(
            tiny_gar.definition, params, request, eop_input=layout.eop_input, max_frames=FRAMES
        )
    )(tiny_gar.params, request)
    found = list(_primitives(jaxpr.jaxpr))
    names = [name for name, _ in found]
    assert not [name for name in names if "callback" in name or "infeed" in name or "outfeed" in name]
    loops = [equation for name, equation in found if name == "while" and len(equation.outvars) > 10]
    assert len(loops) == 1  # the one that carries codes, durations, caches
    caches = [v for v in loops[0].outvars if v.aval.ndim == 4]
    assert len(caches) == 2 * 2  # keys and values of both layers, each on its own


def _nar_inputs(rows=2):
    rng = np.random.default_rng(0)
    n, given, length = 3, 4, 16
    at = np.broadcast_to(np.arange(length), (rows, length))
    real = at < np.array([[16], [12]])[:rows]
    is_frame = (at >= n) & real
    return NarInputs(
        phones=rng.integers(0, 5, (rows, length)).astype(np.int32),
        is_frame=is_frame,
        codes=(rng.integers(0, 1024, (rows, length, 8)) * is_frame[..., None]).astype(np.int32),
        known=np.where(is_frame & (at < n + given), 8, np.where(is_frame, 1, 0)).astype(np.int32),
        stage=np.full((rows, length), 2, np.int32),
        segment_ids=real.astype(np.int32),
        positions=at.astype(np.int32),
    )


def _nearest_to_mean(logits_BxRxC, embedding_CxD, temperature):
    """The code whose embedding is nearest to the mean, by its distance from each of them."""
    weights_BxRxC = np.exp((logits_BxRxC - logits_BxRxC.max(-1, keepdims=True)).astype(float) / temperature)
    mean_BxRxD = weights_BxRxC @ embedding_CxD / weights_BxRxC.sum(-1, keepdims=True)
    return np.linalg.norm(mean_BxRxD[..., None, :] - embedding_CxD, axis=-1).argmin(-1)


@pytest.mark.parametrize("temperature", [0.0, 0.4, 2.0])
def test_nar_decoding_is_the_slow_loop_and_leaves_what_was_given(tiny_nar, temperature):
    inputs = _nar_inputs()
    found = np.asarray(decode_nar(tiny_nar.definition, tiny_nar.params, inputs, temperature))
    behind = inputs.is_frame & (inputs.known < NUM_LAYERS)
    codes, features = np.where(behind[..., None], 0, inputs.codes), jax.jit(tiny_nar.model)
    codes[..., 0] = inputs.codes[..., 0]
    for stage in range(2, NUM_LAYERS + 1):
        step = dataclasses.replace(
            inputs,
            codes=codes,
            known=np.where(behind, stage - 1, inputs.known).astype(np.int32),
            stage=np.full_like(inputs.stage, stage),
        )
        embedding_CxD = np.asarray(tiny_nar.params["code_embedding"])[stage - 1]
        logits = np.asarray(features(step)) @ embedding_CxD.T
        chosen = _nearest_to_mean(logits, embedding_CxD, temperature) if temperature else logits.argmax(-1)
        codes[..., stage - 1] = np.where(behind, chosen, codes[..., stage - 1])
    np.testing.assert_array_equal(found[inputs.is_frame], codes[inputs.is_frame])
    np.testing.assert_array_equal(found[..., 0][inputs.is_frame], inputs.codes[..., 0][inputs.is_frame])
    prompt = inputs.is_frame & (inputs.known == NUM_LAYERS)
    np.testing.assert_array_equal(found[prompt], inputs.codes[prompt])
    # What stood in the layers to fill does not matter.
    other = dataclasses.replace(inputs, codes=np.where((np.arange(8) > 0) & behind[..., None], 7, inputs.codes))
    again = np.asarray(decode_nar(tiny_nar.definition, tiny_nar.params, other, temperature))
    np.testing.assert_array_equal(again[inputs.is_frame], found[inputs.is_frame])


def test_another_temperature_of_the_nar_brings_other_codes_and_no_compilation(tiny_nar):
    inputs = _nar_inputs()

    def decode(temperature):
        return np.asarray(decode_nar(tiny_nar.definition, tiny_nar.params, inputs, np.float32(temperature)))

    greedy, compiled = decode(0.0), decode_nar._cache_size()
    # All of the probability stands on the likeliest code, which is nearest to itself.
    for cold in (1e-5, 1e-40):
        np.testing.assert_array_equal(decode(cold)[inputs.is_frame], greedy[inputs.is_frame])
    assert (decode(1.0) != greedy).any()
    assert decode_nar._cache_size() == compiled
