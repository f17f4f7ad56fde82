"""Control at the phone level: pronunciations, pauses, durations and speed asked for, applied to a sentence.

`docs/control.md` shows it in use. All numbers of words and phones begin at 0. Phones are counted in the sentence as it
is spoken: with its pronunciations and pauses as asked for.
"""

import dataclasses
import difflib
from collections.abc import Sequence

from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.inventory import SIL
from ellav_jax.frontend.word_spans import PhonedText, WordSpan


@dataclasses.dataclass(frozen=True)
class Pronunciation:
    """phones in place of the word's own; with `phone`, in place of that phone of the word alone.

    word: its number or, where it stands but once, its text. where: for messages.
    """

    word: int | str
    phones: tuple[str, ...]
    phone: int | None = None
    where: str = "a pronunciation"


@dataclasses.dataclass(frozen=True)
class Pause:
    """Silence of so many frames after a word: inserted, stretched, shortened or, with 0, taken out."""

    after: int | str
    frames: int
    where: str = "a pause"


@dataclasses.dataclass(frozen=True)
class Duration:
    """Least and most frames of each of some phones; exact where both are the same, None where one is not asked for.

    Which: `phones` (first, last) of the sentence, or all of a word or its phone `phone`, or all whose name is in `every`.
    """

    floor: int | None = None
    cap: int | None = None
    phones: tuple[int, int] | None = None
    word: int | str | None = None
    phone: int | None = None
    every: tuple[str, ...] = ()
    where: str = "a duration"


@dataclasses.dataclass(frozen=True)
class Control:
    """What is asked for of a sentence. Of durations for one phone the last counts, and a pause above them.

    phones: all phones of the sentence, in place of those of a text. floors, caps: of all phones, None where free;
    durations count above them.
    """

    speed: float = 1.0
    phones: tuple[str, ...] | None = None
    floors: tuple[int | None, ...] | None = None
    caps: tuple[int | None, ...] | None = None
    pronunciations: tuple[Pronunciation, ...] = ()
    pauses: tuple[Pause, ...] = ()
    durations: tuple[Duration, ...] = ()
    where: str = "control"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Phones to speak, their words, and least and most frames of each phone (None: not asked for)."""

    phoned: PhonedText
    floors: tuple[int | None, ...]
    caps: tuple[int | None, ...]
    speed: float = 1.0


def make_plan(control: Control, phoned: PhonedText, frontend: Frontend) -> Plan:
    """Applies the control to the phones of a text: pronunciations, then pauses, then durations.

    Raises InputError, saying where in the control and what was expected, for words and phones that aren't there, phones
    out of the inventory, lists of another length, and pauses where silence is no phone.
    """
    if control.phones is not None:
        phoned = PhonedText(checked_phones(control.phones, frontend, control.where))
    for one in control.pronunciations:
        phoned = _pronounced(phoned, one, frontend)
    phoned, timed = _paused(phoned, control.pauses, frontend)
    floors, caps = ([None] * len(phoned.phones) for _ in range(2))
    for name, asked, values in (("floors", control.floors, floors), ("caps", control.caps, caps)):
        if asked is None:
            continue
        if len(asked) != len(values):
            raise InputError(
                f"{control.where}: {len(asked)} {name} (frames) for {len(values)} phones ({' '.join(phoned.phones)}); "
                "expected one for each, null where it is free"
            )
        values[:] = asked
    for one in control.durations:
        for place in _places(phoned, one, frontend):
            floors[place], caps[place] = one.floor, one.cap
    for place, one in timed.items():
        floors[place] = caps[place] = one.frames
    return Plan(phoned, tuple(floors), tuple(caps), control.speed)


def checked_phones(phones: Sequence[str], frontend: Frontend, where: str) -> tuple[str, ...]:
    """The phones. Raises InputError for one that the inventory doesn't have, with those that look like it."""
    for phone in phones:
        if phone not in frontend.phones:
            near = difflib.get_close_matches(phone.upper(), frontend.phones, cutoff=0.4)
            near = near or difflib.get_close_matches(phone, frontend.phones, cutoff=0.4)
            like = f" (did you mean {' or '.join(near)}?)" if near else ""
            inventory = " ".join(frontend.phones)
            raise InputError(f"{where}: no phone {phone!r} in the inventory{like}, which has {inventory}")
    return tuple(phones)


def find_word(phoned: PhonedText, word: int | str, where: str) -> int:
    """The number of a word, given by it or by its text. Raises InputError where there is none, or more than one."""
    listed = ", ".join(f"{number} {one.text}" for number, one in enumerate(phoned.words)) or "none"
    if isinstance(word, int):
        if not 0 <= word < len(phoned.words):
            raise InputError(f"{where}: no word {word}; the words are: {listed}")
        return word
    found = [number for number, one in enumerate(phoned.words) if word.lower() in (one.text, one.text.rstrip("."))]
    if not found:
        raise InputError(f"{where}: no word {word!r} in the text as it is spoken; the words are: {listed}")
    if len(found) > 1:
        raise InputError(f"{where}: the text has {word!r} more than once; say which by its number: {listed}")
    return found[0]


def _pronounced(phoned: PhonedText, asked: Pronunciation, frontend: Frontend) -> PhonedText:
    number = find_word(phoned, asked.word, asked.where)
    span = phoned.words[number]
    new = checked_phones(asked.phones, frontend, asked.where)
    if SIL in new:
        raise InputError(
            f"{asked.where}: {SIL} in the pronunciation of {span.text!r}; ask for a pause after a word instead"
        )
    begin, end = span.begin, span.end
    if asked.phone is not None:
        begin = _phone_of(phoned, span, asked.phone, asked.where)
        end = begin + 1
    if not new and end - begin == span.end - span.begin:
        raise InputError(f"{asked.where}: no phones for {span.text!r}; expected at least one")
    return _replaced(phoned, begin, end, new, number)


def _replaced(phoned: PhonedText, begin: int, end: int, new: tuple[str, ...], number: int | None) -> PhonedText:
    """`new` in place of phones [begin, end), which are word `number`'s, or no word's."""
    longer = len(new) - (end - begin)
    words = tuple(
        WordSpan(one.text, one.begin, one.end + longer)
        if place == number
        else one.moved(longer if one.begin >= end else 0)
        for place, one in enumerate(phoned.words)
    )
    return PhonedText((*phoned.phones[:begin], *new, *phoned.phones[end:]), words)


def _paused(phoned: PhonedText, pauses: Sequence[Pause], frontend: Frontend) -> tuple[PhonedText, dict[int, Pause]]:
    """The phones with their pauses, and which phones these pauses are."""
    if pauses and not frontend.silence_as_phone:
        raise InputError(
            f"{pauses[0].where}: silence is no phone in this model's data, so it can't be asked for (silence_as_phone)"
        )
    after = {find_word(phoned, one.after, one.where): one for one in pauses}
    timed: dict[int, Pause] = {}
    for number, one in sorted(after.items()):
        end = phoned.words[number].end
        silent = phoned.phones[end : end + 1] == (SIL,)
        # Words behind it move; those ahead, with their pauses, have their places already.
        phoned = _replaced(phoned, end, end + silent, (SIL,) if one.frames else (), None)
        if one.frames:
            timed[end] = one
    return phoned, timed


def _places(phoned: PhonedText, asked: Duration, frontend: Frontend) -> list[int]:
    count = len(phoned.phones)
    if asked.phones is not None:
        first, last = asked.phones
        if not 0 <= first <= last < count:
            what = f"no phone {first}" if first == last else f"no phones {first} to {last}"
            raise InputError(f"{asked.where}: {what}; the sentence has {count}, 0 to {count - 1}")
        return list(range(first, last + 1))
    if asked.every:
        names = checked_phones(asked.every, frontend, asked.where)
        return [place for place, phone in enumerate(phoned.phones) if phone in names]
    span = phoned.words[find_word(phoned, asked.word, asked.where)]
    if asked.phone is None:
        return list(range(span.begin, span.end))
    return [_phone_of(phoned, span, asked.phone, asked.where)]


def _phone_of(phoned: PhonedText, span: WordSpan, phone: int, where: str) -> int:
    if not 0 <= phone < span.end - span.begin:
        names = " ".join(phoned.phones[span.begin : span.end])
        raise InputError(
            f"{where}: no phone {phone} in {span.text!r}, which has {names} (0 to {span.end - span.begin - 1})"
        )
    return span.begin + phone
