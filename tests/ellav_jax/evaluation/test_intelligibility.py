"""What counts as an error and as a cut, with a recogniser that hears what the test says."""

import dataclasses

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.evaluation.intelligibility import Intelligibility, text_counts, text_normalizer
from ellav_jax.evaluation.metric import Heard
from ellav_jax.evaluation.recognizers import open_recognizer


@dataclasses.dataclass
class Parrot:
    says: str
    name: str = "parrot"

    def transcribe(self, waveform_S, sample_rate):
        return self.says


def heard(text, finished=True):
    return Heard(text, (), np.zeros(2400, np.float32), 24000, 0, np.zeros(0, np.float32), finished)


def test_both_sides_are_normalised_as_whisper_does():
    metric = Intelligibility(Parrot("mister smith's colour is twenty one, he isn't here"), "en-us")
    found = metric.measure(heard("Mr. Smith's color is 21. He is not here!"))
    assert found["word_errors"] == 0
    assert found["character_errors"] == 0
    assert found["understood"].startswith("mister")


def test_other_languages_keep_their_words():
    assert text_normalizer("de")("Grüße, Welt!") == "grüße welt"


def test_words_and_characters_are_counted_apart():
    found = text_counts("the cat sat", "the bat sat down", finished=True)
    wanted = {"words": 3, "word_substitutions": 1, "word_deletions": 0, "word_insertions": 1, "word_errors": 2}
    wanted |= {"characters": 11, "character_substitutions": 1, "character_insertions": 5, "character_errors": 6}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "understood, finished, cut",
    [("one two", True, 1), ("one two three", True, 0), ("one two", False, 0), ("", True, 1)],
)
def test_cut_off_is_what_ended_by_itself_two_words_early(understood, finished, cut):
    assert text_counts("one two three four", understood, finished)["cut"] == cut


def test_figures_are_rates_over_all_words():
    results = [text_counts("a b c d", "a b c d", True), text_counts("x y", "x", True)]
    metric = Intelligibility(Parrot(""), "en-us")
    figures = {column.title: column.estimate(results) for column in metric.columns}
    assert figures["WER %"].value == pytest.approx(100 / 6)
    assert figures["D"].value == pytest.approx(100 / 6)
    assert figures["CUT %"].value == 0


@pytest.mark.parametrize("name", ["sphinx", "faster-whisper", "faster-whisper:", ""])
def test_an_unknown_recogniser_is_refused_with_those_that_are_known(name):
    with pytest.raises(InputError, match=r"unknown recogniser .* expected pocketsphinx, or faster-whisper:MODEL"):
        open_recognizer(name, "en-us")


def test_pocketsphinx_understands_english_alone():
    with pytest.raises(InputError, match="understands en-us, the models speak de"):
        open_recognizer("pocketsphinx", "de")


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(InputError, match=r"needs faster-whisper; install it with: pip install 'ellav-jax\[evaluate\]'"):
        open_recognizer("faster-whisper:tiny", "en-us")
