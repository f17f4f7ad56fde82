"""A recording and what is said in it → a prompt: phones, durations, codes, words."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ellav_jax.codec.codec import Codec
from ellav_jax.errors import InputError
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.durations import frame_durations, trim_edges
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.word_spans import WordSpan, match_words
from ellav_jax.resampling import resample

MIN_PROMPT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """A voice: phone ids [P], durations [P] and codes [T, 8] of a recording.

    words: which phones are which word's, where that is known.
    """

    phones_P: np.ndarray
    durations_P: np.ndarray
    codes_Tx8: np.ndarray
    words: tuple[WordSpan, ...] = ()

    def durations_behind(self, durations: np.ndarray) -> np.ndarray:
        """Durations [P + N] of the prompt's phones and those behind them → the latter's [N], in frames behind the prompt."""
        ends = np.maximum(np.cumsum(durations)[len(self.phones_P) :] - len(self.codes_Tx8), 0)
        return np.diff(ends, prepend=0)


def make_prompt(
    waveform_S: np.ndarray,
    sample_rate: int,
    text: str,
    intervals: Sequence[PhoneInterval] | None,
    frontend: Frontend,
    analyzer: TextAnalyzer,
    codec: Codec,
) -> Prompt:
    """Aligns and encodes a recording; see `Synthesizer.prompt`."""
    if len(waveform_S) < MIN_PROMPT_SECONDS * sample_rate:
        raise InputError(
            f"the prompt lasts {len(waveform_S) / sample_rate:.2f} s, expected at least {MIN_PROMPT_SECONDS} s; "
            "about 3 s are best"
        )
    if intervals is None:
        intervals = Aligner(frontend, analyzer).align(waveform_S, sample_rate, text)
    waveform_S, intervals = trim_edges(waveform_S, sample_rate, intervals, frontend)
    codes_Tx8 = codec.encode(resample(waveform_S, sample_rate, codec.sample_rate))
    phones, durations_P = frame_durations(intervals, len(codes_Tx8), frontend)
    words = match_words(phones, [(one.text, one.pronunciations) for one in analyzer.words(text)]) if text else None
    return Prompt(phone_ids(phones, frontend), durations_P, codes_Tx8, words or ())


def phone_ids(phones: Sequence[str], frontend: Frontend) -> np.ndarray:
    """Names [N] → ids int32 [N]. Raises InputError for a name that is not in the inventory."""
    ids = {name: index for index, name in enumerate(frontend.phones)}
    if unknown := [phone for phone in phones if phone not in ids]:
        raise InputError(f"no phone {unknown[0]!r} in the inventory; expected one of {' '.join(frontend.phones)}")
    return np.array([ids[phone] for phone in phones], np.int32)
