"""Editing a recording: words of its text changed, all else kept with its codes.

The words of the old and the new text are compared. What is changed is spoken behind its left context, and where the
recording goes on, its next phone is fed, which ends the stretch; the codes on the right are then put behind it as they
were. At last the NAR fills layers 2 to 8 of what is new, with all layers of both sides given. It was trained with a
prompt on the left alone: given frames on the right are new to it, and how well it uses them is not known.
"""

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.frontend.inventory import SIL
from ellav_jax.frontend.word_spans import PhonedText, WordSpan
from ellav_jax.synthesis.control import Control, Plan, find_word


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the edited phones: [begin, end) of the recording's, kept, or of the new text's, to be spoken."""

    kept: bool
    begin: int
    end: int


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """The parts, in order, and the words of the whole, counted in its phones."""

    parts: tuple[Part, ...]
    words: tuple[WordSpan, ...]


def plan_edit(
    recording_phones: Sequence[str], recording_words: Sequence[WordSpan], plan: Plan, asked: frozenset[int]
) -> Edit:
    """Which phones of a recording stay, and which of the plan's are spoken.

    asked: words of the plan that are spoken anew even where the text is the same. What is silent beside a word that
    stays is kept. Raises InputError when nothing is to be changed, or nothing would stay to take the voice from.
    """
    old, new = [one.text for one in recording_words], [one.text for one in plan.phoned.words]
    parts: list[Part] = []
    words: list[WordSpan] = []
    at = 0  # the recording's phones up to here are dealt with

    def length() -> int:
        return sum(part.end - part.begin for part in parts)

    def keep(end: int) -> None:
        nonlocal at
        if end > at:
            parts.append(Part(True, at, end))
        at = max(at, end)

    changes = _changes(old, new, asked)
    if not changes:
        raise InputError(
            "the new text has the words that the recording has; change a word, or name one in the control file to have it "
            "spoken anew"
        )
    if sum(old_end - old_begin for old_begin, old_end, *_ in changes) == len(old):
        raise InputError(
            "no word of the recording stays in the new text; speak it with the recording as the prompt instead"
        )
    for old_begin, old_end, new_begin, new_end in changes:
        first, last = _old_phones(recording_phones, recording_words, old_begin, old_end, plan.phoned, new_begin)
        _keep_words(words, recording_words, at, first, length())
        keep(first)
        at = last
        if new_end > new_begin:
            begin, end = plan.phoned.words[new_begin].begin, plan.phoned.words[new_end - 1].end
            words += [one.moved(length() - begin) for one in plan.phoned.words[new_begin:new_end]]
            parts.append(Part(False, begin, end))
    _keep_words(words, recording_words, at, len(recording_phones), length())
    keep(len(recording_phones))
    return Edit(tuple(parts), tuple(words))


def _changes(old: list[str], new: list[str], asked: frozenset[int]) -> list[tuple[int, int, int, int]]:
    """Stretches of words that differ: [begin, end) of the old, [begin, end) of the new."""
    changes: list[tuple[int, int, int, int]] = []
    for kind, old_begin, old_end, new_begin, new_end in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind != "equal":
            changes.append((old_begin, old_end, new_begin, new_end))
            continue
        changes += [
            (old_begin + at, old_begin + at + 1, new_begin + at, new_begin + at + 1)
            for at in range(old_end - old_begin)
            if new_begin + at in asked
        ]
    merged: list[tuple[int, int, int, int]] = []
    for change in changes:
        if merged and merged[-1][1] == change[0] and merged[-1][3] == change[2]:
            change = (merged[-1][0], change[1], merged.pop()[2], change[3])
        merged.append(change)
    return merged


def _old_phones(
    phones: Sequence[str], words: Sequence[WordSpan], begin: int, end: int, new: PhonedText, new_begin: int
) -> tuple[int, int]:
    """The recording's phones that words [begin, end) are; where there are none, the place for what is inserted."""
    if end > begin:
        return words[begin].begin, words[end - 1].end
    if begin == 0:
        at = words[0].begin
        return at, at
    at = words[begin - 1].end
    # The new text pauses ahead of what is inserted: so it goes behind the recording's pause there, if there is one.
    word = new.words[new_begin - 1] if new_begin else None
    pauses = word is not None and new.phones[word.end : word.end + 1] == (SIL,)
    inside = begin < len(words)
    return (at + 1, at + 1) if pauses and inside and phones[at] == SIL else (at, at)


def _keep_words(words: list[WordSpan], old: Sequence[WordSpan], begin: int, end: int, length: int) -> None:
    words += [one.moved(length - begin) for one in old if begin <= one.begin and one.end <= end]


def merge_silences(
    phones: Sequence[str], durations_N: np.ndarray, words: Sequence[WordSpan] = ()
) -> tuple[list[str], np.ndarray, tuple[WordSpan, ...]]:
    """Phones, durations and words in which silences that follow each other are one."""
    merged: list[str] = []
    frames: list[int] = []
    place_of = []
    for phone, duration in zip(phones, durations_N, strict=True):
        if merged and phone == merged[-1] == SIL:
            frames[-1] += int(duration)
        else:
            merged.append(phone)
            frames.append(int(duration))
        place_of.append(len(merged) - 1)
    moved = tuple(WordSpan(one.text, place_of[one.begin], place_of[one.end - 1] + 1) for one in words)
    return merged, np.array(frames, np.int32), moved


def words_asked(control: Control, phoned: PhonedText) -> frozenset[int]:
    """Words of the text that a control file names, which an edit speaks anew.

    Raises InputError for what can't be asked of a recording: speed, pauses, and durations that don't name a word.
    """
    names = []
    if control.speed != 1 or control.pauses or control.phones or control.floors or control.caps:
        raise InputError(f"{control.where}: an edit takes pronunciations and durations of words, nothing else")
    for one in (*control.pronunciations, *control.durations):
        if one.word is None:
            raise InputError(f"{one.where}: an edit takes durations of words (word, and phone of the word), no others")
        names.append(find_word(phoned, one.word, one.where))
    return frozenset(names)
