"""What is spoken in an evaluation, in whose voice, and what it is held against."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.evaluation.edit_counts import place_behind
from ellav_jax.frontend.inventory import SIL
from ellav_jax.synthesis.prompts import Prompt

ProtocolName = Literal["continuation", "cross-sentence"]

MAX_SECONDS = {"continuation": 25.0, "cross-sentence": 10.0}
"""Longer utterances are left out. By the first author's VALL-E code; 4 to 10 s for the paper itself is recalled only."""
MIN_SECONDS = 4.0
PROMPT_SECONDS = 3.0


class AlignedUtterance(Protocol):
    """An utterance of a data set: phone ids [N], frames of each [N], RVQ codes [T, 8]."""

    id: str
    text: str
    speaker: str
    phones_N: np.ndarray
    durations_N: np.ndarray
    codes_Tx8: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """Something to speak, and what is known of it.

    text: what is to be heard in what is judged, which is the prompt and what stands behind it where `continues`, else
    the latter alone. phones: to speak behind the prompt. utterance: the one that says the same, where there is one.
    """

    id: str
    text: str
    prompt: Prompt
    prompt_id: str
    phones: tuple[str, ...]
    continues: bool = False
    utterance: AlignedUtterance | None = None

    @property
    def reference_frames(self) -> int | None:
        """Frames that the utterance has behind the prompt."""
        if self.utterance is None:
            return None
        return len(self.utterance.codes_Tx8) - (len(self.prompt.codes_Tx8) if self.continues else 0)

    def heard_phones(self, inventory: Sequence[str]) -> tuple[str, ...]:
        """Phones that should be heard in what is judged; silence left out. inventory: names by id."""
        given = [inventory[phone] for phone in self.prompt.phones_P] if self.continues else []
        return tuple(phone for phone in (*given, *self.phones) if phone != SIL)


def nearest_cut(durations_N: np.ndarray, frames: float) -> int:
    """How many phones stand ahead of the inner boundary that is nearest to `frames`; the earlier of two as near.

    Raises ValueError for fewer than two phones.
    """
    if len(durations_N) < 2:
        raise ValueError("an utterance of one phone has no inner boundary")
    return 1 + int(np.argmin(np.abs(np.cumsum(durations_N)[:-1] - frames)))


def prompt_of(utterance: AlignedUtterance, phones: int) -> Prompt:
    """The first `phones` phones of an utterance as a prompt."""
    frames = int(utterance.durations_N[:phones].sum())
    return Prompt(
        utterance.phones_N[:phones].astype(np.int32),
        utterance.durations_N[:phones].astype(np.int32),
        utterance.codes_Tx8[:frames].astype(np.int32),
    )


def beginning(utterance: AlignedUtterance, frames: float) -> Prompt:
    """An utterance up to the boundary nearest to `frames`, which may be its end."""
    ends_N = np.cumsum(utterance.durations_N)
    return prompt_of(utterance, 1 + int(np.argmin(np.abs(ends_N - frames))))


def continuation(
    utterance: AlignedUtterance, text_phones: Sequence[str], inventory: Sequence[str], frames: float
) -> Target | None:
    """The utterance's own beginning as the prompt, cut at the phone boundary nearest to `frames`; the rest is spoken.

    text_phones: of the whole text, as the frontend says them. Spoken are those that stand behind the cut by their
    alignment with the recording's phones: a word that the cut divides is finished, and pauses are where the text, not
    the recording, has them. None where no phone but silence is left on either side.
    """
    names = [inventory[phone] for phone in utterance.phones_N]
    if len(names) < 2:
        return None
    cut = nearest_cut(utterance.durations_N, frames)
    rest = tuple(text_phones[place_behind(cut, names, text_phones) :])
    if set(names[:cut]) <= {SIL} or set(rest) <= {SIL}:
        return None
    prompt = prompt_of(utterance, cut)
    return Target(utterance.id, utterance.text, prompt, utterance.id, rest, continues=True, utterance=utterance)


def cross_sentence(
    utterance: AlignedUtterance,
    text_phones: Sequence[str],
    others: Sequence[AlignedUtterance],
    inventory: Sequence[str],
    frames: float,
) -> Target | None:
    """The utterance's text in the voice of the beginning, of about `frames` frames, of another of its speaker's.

    others: utterances that may serve as prompts; its own among them is passed over. Of those of at least `frames` frames
    (or of the longest, where none is) the utterance's id chooses. None where its speaker has no other, or where that one's
    beginning is silence.
    """
    voices = [one for one in others if one.speaker == utterance.speaker and one.id != utterance.id]
    chosen = choose_prompt(utterance.id, voices, frames)
    if chosen is None:
        return None
    prompt = beginning(chosen, frames)
    if {inventory[phone] for phone in prompt.phones_P} <= {SIL}:
        return None
    return Target(utterance.id, utterance.text, prompt, chosen.id, tuple(text_phones), utterance=utterance)


def choose_prompt(key: str, voices: Sequence[AlignedUtterance], frames: float) -> AlignedUtterance | None:
    """One of those of at least `frames` frames, by `key` and nothing else; the longest where none is; None of none."""
    if not voices:
        return None
    long_enough = [one for one in voices if len(one.codes_Tx8) >= frames]
    if not long_enough:
        return max(voices, key=lambda one: (len(one.codes_Tx8), one.id))
    return sorted(long_enough, key=lambda one: one.id)[stable_number(key) % len(long_enough)]


def stable_number(key: str) -> int:
    """32 bits that depend on `key` alone, on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def read_sentences(text: str, where: str) -> list[str]:
    """One sentence a line; empty lines and those that begin with # are left out. Raises InputError where none is left."""
    lines = [line.strip() for line in text.splitlines()]
    sentences = [line for line in lines if line and not line.startswith("#")]
    if not sentences:
        raise InputError(f"{where}: no sentences; expected one a line")
    return sentences
