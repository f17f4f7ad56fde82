"""Speech: what was spoken, and its timings."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ellav_jax.frontend.textgrid_file import Interval, TextGrid, Tier
from ellav_jax.frontend.word_spans import WordSpan


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """What was spoken: waveform float32 [S] at the codec's rate, codes [T, 8], phone names and their frames (summing to T).

    calls: GAR calls, for all rows of the batch on its device. finished: whether the GAR ended by itself, before the limit on
    frames. words: which phones are which word's, where the request said so.
    """

    waveform_S: np.ndarray
    codes_Tx8: np.ndarray
    phones: tuple[str, ...]
    durations_N: np.ndarray
    calls: int
    finished: bool
    words: tuple[WordSpan, ...] = ()


def speech_textgrid(speeches: Sequence[Speech], frame_rate: int, pause_seconds: float = 0.0) -> TextGrid:
    """Tiers "words" (where they are known) and "phones" of sentences that follow each other with pauses between them."""
    words: list[Interval] = []
    phones: list[Interval] = []
    start_s = 0.0
    for number, speech in enumerate(speeches):
        if number and pause_seconds:
            phones.append(Interval("", start_s, start_s + pause_seconds))
            start_s += pause_seconds
        ends_s = [start_s, *(start_s + np.cumsum(speech.durations_N) / frame_rate).tolist()]
        spoken = zip(speech.phones, ends_s, ends_s[1:], strict=False)
        phones += [Interval(*one) for one in spoken if one[2] > one[1]]
        words += [Interval(word.text, ends_s[word.begin], ends_s[word.end]) for word in speech.words]
        start_s = ends_s[-1]
    tiers = [Tier("words", _without_gaps(words, start_s))] if words else []
    return TextGrid(0.0, start_s, [*tiers, Tier("phones", phones)])


def _without_gaps(intervals: Sequence[Interval], end_s: float) -> list[Interval]:
    """Praat wants a tier that covers the whole file."""
    covered, time = [], 0.0
    for one in [*intervals, Interval("", end_s, end_s)]:
        if one.start_s > time:
            covered.append(Interval("", time, one.start_s))
        if one.end_s > one.start_s:
            covered.append(one)
        time = max(time, one.end_s)
    return covered
