"""The synthesizer with random weights on a real prompt: shapes, durations, compilations, refusals."""

import contextlib
import functools

import jax
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.synthesis.control import Control, Duration, Pause
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.request import SpeechRequest
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import Synthesizer
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("quick_compilation")

LIMITS = PhoneLimits(min_frames=2, max_phone_seconds=0.1, max_silence_seconds=0.2)


@pytest.fixture(scope="module")
def make(tiny, bundled_codec):
    """`make(layout)`: a synthesizer over random weights."""
    frontend = default_frontend()
    phones = len(frontend.phones)
    gar = ModelDefinition.of(lambda key: Gar(GarConfig(tiny()), Vocabulary(phones), key))
    nar = ModelDefinition.of(lambda key: Nar(NarConfig(tiny()), phones, key))
    models = [TrainedModel(d, jax.jit(d.init)(jax.random.key(i))) for i, d in enumerate((gar, nar))]
    return functools.cache(lambda layout, limits=LIMITS: Synthesizer(*models, layout, frontend, bundled_codec, limits))


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


@contextlib.contextmanager
def _compilations():
    """A list that gets an entry for every program that is compiled within."""
    found, name = [], "/jax/core/compile/backend_compile_duration"

    def listener(event, seconds, **_):
        if event == name:
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_after_the_warm_up_sentences_of_its_length_compile_nothing(make, clip):
    synthesizer = make(LayoutConfig(local_advance=2))
    prompt = synthesizer.prompt(*clip)
    with _compilations() as found:
        synthesizer.warm_up(prompt, max_seconds=2.6)
    assert found
    with _compilations() as found:
        texts = ["Go.", "Press one, please.", "Thank you for your call now."]
        lengths = {len(synthesizer.speak(prompt, text).phones) for text in texts}
        synthesizer.speak(prompt, "Press one.", control=Control(durations=(Duration(40, 40, phones=(2, 3)),)))
    assert len(lengths) == 3
    assert not found


@pytest.mark.slow
def test_after_one_warm_up_sentences_of_1_to_20_seconds_compile_nothing(make, clip):
    synthesizer = make(LayoutConfig(), PhoneLimits())
    prompt = synthesizer.prompt(*clip)
    synthesizer.warm_up(prompt, batch_size=2)
    rng = np.random.default_rng(0)
    with _compilations() as found:
        for phones in (12, 40, 90, 130, 170, 200, 240):
            names = [synthesizer.frontend.phones[one] for one in rng.integers(1, 40, phones)]
            frames = tuple(int(one) for one in rng.multinomial(phones * 25 // 4 - phones, np.ones(phones) / phones) + 1)
            request = SpeechRequest(prompt, names, floors=frames, caps=frames)
            free = SpeechRequest(prompt, names, seed=phones)
            lengths = [len(one.waveform_S) / 24_000 for one in synthesizer.speak_batch([request, free], batch_size=2)]
            assert lengths[0] == pytest.approx(phones / 12, rel=0.02)
    assert not found


@pytest.mark.slow
def test_a_batch_speaks_what_each_sentence_alone_would_be(make, clip):
    synthesizer = make(LayoutConfig(local_advance=2))
    prompt = synthesizer.prompt(*clip)
    texts = [
        "Press two.",
        "Press one, please.",
        "Goodbye now.",
        "Thank you very much for calling us today, my dear friend.",
    ]
    requests = [synthesizer.request(prompt, text, seed=seed) for seed, text in enumerate(texts)]
    together = list(synthesizer.speak_batch(requests, batch_size=3))
    assert [one.phones for one in together] == [tuple(request.phones) for request in requests]
    for seed, (text, speech) in enumerate(zip(texts, together, strict=True)):
        alone = synthesizer.speak(prompt, text, SamplingConfig(seed=seed))
        np.testing.assert_array_equal(speech.codes_Tx8[:, 0], alone.codes_Tx8[:, 0])
        np.testing.assert_array_equal(speech.durations_N, alone.durations_N)
        assert np.mean(speech.codes_Tx8 == alone.codes_Tx8) > 0.99  # near ties of the NAR may fall otherwise
        assert [word.text for word in speech.words] == [word.text for word in synthesizer.analyzer.words(text)]


def test_what_a_control_asks_for_is_in_the_speech(make, clip):
    synthesizer = make(LayoutConfig(local_advance=2))
    prompt = synthesizer.prompt(*clip)
    control = Control(
        pauses=(Pause("one", 45),),
        durations=(
            Duration(12, 12, word="press", phone=0),
            Duration(30, 33, word="please"),
            Duration(1, 1, word="one"),
        ),
    )
    speech = synthesizer.speak(prompt, "Press one please.", control=control)
    words = {word.text: speech.durations_N[word.begin : word.end] for word in speech.words}
    assert words["press"][0] == 12
    assert words["one"].tolist() == [1, 1, 1]
    assert np.all((words["please"] >= 30) & (words["please"] <= 33))
    after_one = speech.words[1].end
    assert (speech.phones[after_one], speech.durations_N[after_one]) == ("SIL", 45)
    assert len(speech.waveform_S) == speech.durations_N.sum() * 320


def test_speed_scales_the_durations_of_a_first_pass_and_keeps_what_is_fixed(make, clip):
    synthesizer = make(LayoutConfig(local_advance=2))
    prompt = synthesizer.prompt(*clip)
    fixed = (Duration(15, 15, word="one"),)
    usual = synthesizer.speak(prompt, "Press one please.", control=Control(durations=fixed))
    slow = synthesizer.speak(prompt, "Press one please.", control=Control(speed=0.5, durations=fixed))
    one = np.zeros(len(usual.phones), bool)
    one[usual.words[1].begin : usual.words[1].end] = True
    assert np.all(slow.durations_N[one] == 15)
    np.testing.assert_array_equal(slow.durations_N[~one], 2 * usual.durations_N[~one])


def test_an_edit_keeps_all_codes_of_what_is_not_changed(make, small_corpus):
    synthesizer = make(LayoutConfig(local_advance=2))
    one = min((u for u in small_corpus.utterances if len(u.text.split()) >= 3), key=lambda u: len(u.text))
    recording = synthesizer.prompt(*one.audio.read(), one.text)
    words = [word.text for word in recording.words]
    assert words == [word.text for word in synthesizer.analyzer.words(one.text)]
    changed = len(words) // 2
    text = " ".join([*words[:changed], "marmalade", *words[changed + 1 :]])
    speech = synthesizer.edit(recording, text, control=Control(durations=(Duration(7, 7, word="marmalade", phone=0),)))
    assert [word.text for word in speech.words] == text.split()
    new, old = speech.words[changed], recording.words[changed]
    starts, old_starts = (np.cumsum([0, *one]) for one in (speech.durations_N, recording.durations_P))
    assert speech.durations_N[new.begin] == 7
    np.testing.assert_array_equal(speech.durations_N[: new.begin], recording.durations_P[: old.begin])
    np.testing.assert_array_equal(speech.durations_N[new.end :], recording.durations_P[old.end :])
    np.testing.assert_array_equal(speech.codes_Tx8[: starts[new.begin]], recording.codes_Tx8[: old_starts[old.begin]])
    np.testing.assert_array_equal(speech.codes_Tx8[starts[new.end] :], recording.codes_Tx8[old_starts[old.end] :])
    assert len(speech.waveform_S) == len(speech.codes_Tx8) * 320 == speech.durations_N.sum() * 320
    # What is new has been filled: some of each layer, and the same again with the same seed.
    assert np.all(speech.codes_Tx8[starts[new.begin] : starts[new.end]].any(axis=0))
    again = synthesizer.edit(recording, text, control=Control(durations=(Duration(7, 7, word="marmalade", phone=0),)))
    np.testing.assert_array_equal(again.codes_Tx8, speech.codes_Tx8)


def test_valles_ar_is_asked_for_no_durations_and_no_edits(make, clip):
    synthesizer = make(LayoutConfig(order="valle"))
    prompt = synthesizer.prompt(*clip)
    for control in (
        Control(speed=1.5),
        Control(durations=(Duration(3, 3, phones=(0, 0)),)),
        Control(pauses=(Pause(0, 9),)),
    ):
        with pytest.raises(InputError, match="can't be asked of VALL-E's AR"):
            synthesizer.speak(prompt, "Press one.", control=control)
    with pytest.raises(InputError, match="VALL-E's AR can't edit"):
        synthesizer.edit(prompt, "Press one.")


def test_bad_requests_are_refused_before_anything_is_spoken(make, clip):
    synthesizer = make(LayoutConfig())
    prompt = synthesizer.prompt(*clip)
    good = synthesizer.request(prompt, "Press one.")
    with pytest.raises(InputError, match="no phone 'QX' in the inventory"):
        synthesizer.speak_batch([good, SpeechRequest(prompt, ["QX"])])
    with pytest.raises(InputError, match="batch_size 0"):
        synthesizer.speak_batch([good], batch_size=0)
    with pytest.raises(InputError, match="2 floors for 1 phones"):
        SpeechRequest(prompt, ["AH"], floors=(3, 4))
    with pytest.raises(InputError, match="at least 5 and at most 4"):
        SpeechRequest(prompt, ["AH"], floors=(5,), caps=(4,))
    with pytest.raises(InputError, match="0 frames; a phone has at least 1"):
        SpeechRequest(prompt, ["AH"], caps=(0,))
    with pytest.raises(InputError, match="phone 0 is silence, and the prompt ends with silence"):
        synthesizer.speak_batch([SpeechRequest(prompt, ["SIL", "AH"], floors=(5, None))])
    short = make(LayoutConfig(), PhoneLimits(max_seconds=0.5))
    with pytest.raises(InputError, match="last 40 frames or more, but a sentence is cut off at 38"):
        short.speak_batch([SpeechRequest(prompt, ["AH"], floors=(40,), caps=(40,))])


@pytest.mark.slow
def test_without_caps_a_sentence_may_drone_up_to_its_limit(make, clip):
    synthesizer = make(LayoutConfig(), PhoneLimits(max_phone_seconds=None, max_silence_seconds=None, max_seconds=1.0))
    speech = synthesizer.speak(synthesizer.prompt(*clip), "Press one.")
    # Random weights hardly ever end a phone.
    assert not speech.finished
    assert len(speech.codes_Tx8) == speech.durations_N.sum() == 75


def test_long_text_is_cut_into_sentences_that_can_be_spoken(make):
    synthesizer = make(LayoutConfig())
    long = "We went on and on, " * 30 + "and on."
    parts = synthesizer.sentences(f"Mr. Smith came. {long} The end!")
    assert parts[0] == "Mr. Smith came."
    assert parts[-1] == "The end!"
    assert len(parts) > 3
    assert all(synthesizer.fits(part) for part in parts)
    assert " ".join(parts[1:-1]).split() == long.split()
    with pytest.raises(InputError, match="no words to speak"):
        synthesizer.sentences("…\n\n* * *")


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
