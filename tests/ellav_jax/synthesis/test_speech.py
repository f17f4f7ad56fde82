"""TextGrids of what was spoken."""

import numpy as np

from ellav_jax.frontend.textgrid_file import Interval
from ellav_jax.frontend.word_spans import WordSpan
from ellav_jax.synthesis.speech import Speech, speech_textgrid


def _speech(phones, durations, words):
    frames = sum(durations)
    return Speech(
        np.zeros(frames * 320, np.float32),
        np.zeros((frames, 8), np.int32),
        tuple(phones),
        np.array(durations),
        9,
        True,
        words,
    )


def test_sentences_follow_each_other_with_pauses():
    first = _speech(["SIL", "AY", "SIL"], [15, 30, 30], (WordSpan("i", 1, 2),))
    second = _speech(["AY"], [75], (WordSpan("eye", 0, 1),))
    grid = speech_textgrid([first, second], 75, 0.5)
    words, phones = grid.tiers
    assert (grid.start_s, grid.end_s) == (0.0, 2.5)
    assert (words.name, phones.name) == ("words", "phones")
    assert phones.intervals == [
        Interval("SIL", 0.0, 0.2), Interval("AY", 0.2, 0.6), Interval("SIL", 0.6, 1.0), Interval("", 1.0, 1.5),
        Interval("AY", 1.5, 2.5),
    ]  # fmt: skip
    assert words.intervals == [
        Interval("", 0.0, 0.2), Interval("i", 0.2, 0.6), Interval("", 0.6, 1.5), Interval("eye", 1.5, 2.5),
    ]  # fmt: skip


def test_without_words_there_are_phones_alone_and_phones_that_were_cut_off_are_left_out():
    grid = speech_textgrid([_speech(["AY", "P", "SIL"], [75, 0, 0], ())], 75)
    assert [tier.name for tier in grid.tiers] == ["phones"]
    assert grid.tiers[0].intervals == [Interval("AY", 0.0, 1.0)]
