"""The synthesizer with random weights on a real prompt: shapes, durations, compilations, refusals."""

import jax
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.synthesis.decode import decode_gar, decode_nar
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import PhoneLimits, Synthesizer, TrainedModel, round_up
from ellav_jax.vocabulary import Vocabulary

LIMITS = PhoneLimits(min_frames=2, max_phone_seconds=0.1, max_silence_seconds=0.2)


@pytest.fixture(scope="module")
def make(tiny, bundled_codec):
    """`make(layout)`: a synthesizer over random weights."""
    frontend = default_frontend()
    phones = len(frontend.phones)
    gar = ModelDefinition.of(lambda key: Gar(GarConfig(tiny()), Vocabulary(phones), key))
    nar = ModelDefinition.of(lambda key: Nar(NarConfig(tiny()), phones, key))
    models = [TrainedModel(d, jax.jit(d.init)(jax.random.key(i))) for i, d in enumerate((gar, nar))]
    return lambda layout, limits=LIMITS: Synthesizer(*models, layout, frontend, bundled_codec, limits)


@pytest.fixture(scope="module")
def clip(small_corpus):
    """A held-out clip: waveform, rate, text."""
    one = next(u for u in small_corpus.utterances if u.split == "test")
    return (*one.audio.read(), one.text)


@pytest.mark.parametrize("layout", [LayoutConfig(local_advance=2), LayoutConfig(order="valle")])
def test_what_is_spoken_has_the_length_of_its_durations(make, clip, layout):
    synthesizer = make(layout)
    prompt = synthesizer.prompt(*clip)
    assert prompt.codes_Tx8.shape == (prompt.durations_P.sum(), 8)
    speech = synthesizer.speak(prompt, "Press one, please.", SamplingConfig(seed=4))
    frames = int(speech.durations_N.sum())
    assert speech.codes_Tx8.shape == (frames, 8)
    assert speech.waveform_S.shape == (frames * 320,)
    assert len(speech.phones) == len(speech.durations_N)
    assert np.all(np.isfinite(speech.waveform_S))
    spoken = synthesizer.analyzer.phones("Press one, please.")
    begins_at = len(spoken) - len(speech.phones)
    assert list(speech.phones) == spoken[begins_at:]
    assert begins_at == (synthesizer.frontend.phones[prompt.phones_P[-1]] == "SIL")
    if layout.interleaved:
        assert speech.finished  # caps end every phone of random weights
        caps = np.array([15 if phone == "SIL" else 8 for phone in speech.phones])
        assert np.all(speech.durations_N <= caps)
        assert np.all(speech.durations_N >= 2)
        assert speech.calls == frames + len(speech.phones)  # each phone but the first is fed; one call ends it all


def test_greedy_speech_is_repeatable_and_sampling_goes_by_its_seed(make, clip):
    synthesizer = make(LayoutConfig(local_advance=2))
    prompt = synthesizer.prompt(*clip)

    def codes(**choices):
        return synthesizer.speak(prompt, "Press one, please.", SamplingConfig(**choices)).codes_Tx8.tobytes()

    assert codes(temperature=0.0, seed=1) == codes(temperature=0.0, seed=2)
    assert codes(seed=1) == codes(seed=1) != codes(seed=2)


def test_one_compilation_serves_a_range_of_lengths(make, clip):
    synthesizer = make(LayoutConfig(local_advance=2))
    prompt = synthesizer.prompt(*clip)
    texts = ["Press two.", "Press one, please.", "Goodbye now."]
    synthesizer.speak(prompt, texts[0])
    before = decode_gar._cache_size(), decode_nar._cache_size()
    lengths = {len(synthesizer.speak(prompt, text).phones) for text in texts[1:]}
    assert len(lengths) == 2
    assert (decode_gar._cache_size(), decode_nar._cache_size()) == before


@pytest.mark.parametrize("text", ["", " … !? ", "🙂🎉"])
def test_a_text_without_words_is_refused(make, clip, text):
    synthesizer = make(LayoutConfig(local_advance=2))
    with pytest.raises(InputError):
        synthesizer.speak(synthesizer.prompt(*clip), text)


def test_a_prompt_below_half_a_second_is_refused(make, clip):
    waveform, rate, text = clip
    with pytest.raises(InputError, match=r"the prompt lasts 0\.49 s, expected at least 0\.5 s"):
        make(LayoutConfig()).prompt(waveform[: int(0.49 * rate)], rate, text)


@pytest.mark.parametrize(
    "choices", [{"min_frames": 0}, {"max_phone_seconds": 0.0}, {"max_silence_seconds": float("nan")}]
)
def test_limits_that_would_leave_phones_out_are_refused(choices):
    with pytest.raises(InputError, match=next(iter(choices))):
        PhoneLimits(**choices)


def test_rounding_up():
    assert [round_up(n, 256) for n in (0, 1, 256, 257)] == [0, 256, 256, 512]
