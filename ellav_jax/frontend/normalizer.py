"""Text as written → words as spoken, for American English prompts and prose.

num2words writes the numbers; what a digit string *is* (quantity, year, time, code, money) and all abbreviations,
letters and symbols are rules here. Compared before choosing, on 58 texts of prompts and prose (now cases of this
module's tests): nemo_text_processing 1.2.0 read 43 as expected, but needs pynini (165 MB) and 36 s to build its
grammars; wetext 0.1.8 read 38 (45 MB; "1,234" lost its "one", "1990s" became "ninety seconds"). Both leave telephone
keys, spelled codes and initials to the caller, which is most of what prompts need.
What the speaker of real prompts says decided the readings ("dial 500" is "five zero zero", "H.323" is "h three two
three"): forced alignment and a recogniser on the recordings.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from ellav_jax.errors import UnusableError
from ellav_jax.frontend import numbers
from ellav_jax.frontend.abbreviations import (
    ABBREVIATIONS,
    BEFORE_NUMBERS,
    COUNTED_BY_ROMANS,
    ROMAN_NUMERALS,
    SPELLED,
    STREET_OR_SAINT,
    SYMBOLS,
    UNITS,
)
from ellav_jax.frontend.dictionary import Dictionary
from ellav_jax.frontend.spoken_word import SpokenWord

NAME_AND_VERSION = f"ellav-english 2, num2words {metadata.version('num2words')}"

_LETTER = "\ue000"
"""Private mark ahead of a letter that is spoken by its name."""

_TYPOGRAPHIC = str.maketrans("\u2019\u2018\u201c\u201d\u2212\u2013\u2044", "''\"\"--/")
"""Quotation marks, minus sign, en dash and fraction slash as ASCII has them."""

_CODE_WORDS = r"(?:dial|extension|ext\.?|password|passcode|pin|code|account|zip|phone|fax|serial)"
_MONTH_NAMES = "|".join([*numbers.MONTHS.values(), *numbers.MONTHS, "sept"])
_SCALES = "hundred|thousand|million|billion|trillion"
_YEAR_AFTER = rf"(?:in|since|until|till|by|from|of|year|early|late|{_MONTH_NAMES})"


def spoken_words(text: str, dictionary: Dictionary, pause_marks: str) -> list[SpokenWord]:
    """The words of `text` as a reader says them; `dictionary` tells words ("PIN") from initials ("PBX").

    Annotations in angle or square brackets ("<beep>", "[noise]"), emoji and symbols without a reading are left out.
    Raises UnusableError: "text-empty" when no word is left, "text-unpronounceable" for letters of a script other than
    Latin.
    """
    words: list[SpokenWord] = []
    for chunk in _expand(text, dictionary).split():
        spoken = [SpokenWord(word, is_letter, False) for word, is_letter in _chunk_words(chunk, dictionary, text)]
        words.extend(spoken)
        tail = re.sub(r"^.*\w", "", chunk) if spoken else chunk
        if words and any(mark in pause_marks for mark in tail):
            words[-1] = dataclasses.replace(words[-1], pause_after=True)
    if not words:
        raise UnusableError(
            "text-empty", f"the text {text!r} has no words to speak; expected at least one word, letter or number"
        )
    return words


def _expand(text: str, dictionary: Dictionary) -> str:
    """Rewrites everything that is not a plain word; `_LETTER` marks letter names."""
    text = unicodedata.normalize("NFKC", text.replace("…", " … "))
    text = text.translate(_TYPOGRAPHIC)
    text = re.sub(r"<[^<>]*>|\[[^\[\]]*\]", " ", text)
    text = re.sub(r"\s--?\s|--|—", " — ", text)
    for rule, replacement in _RULES:
        text = rule.sub(replacement, text)
    shouting = not re.search(r"[a-z]", text) and len(re.findall(r"[A-Z]{2,}", text)) > 1
    text = re.sub(r"\b[A-Z]+'[A-Z]+\b", lambda match: _contraction(match, dictionary), text)
    return re.sub(r"[A-Za-z]+(?:'s)?", lambda match: _initials(match, dictionary, shouting), text)


def _contraction(match: re.Match[str], dictionary: Dictionary) -> str:
    """ "I'LL" in small letters, or its LL would be taken for initials."""
    word = match[0].lower()
    return word if word in dictionary else match[0]


def _initials(match: re.Match[str], dictionary: Dictionary, shouting: bool) -> str:
    """Spells initials: capitals that the dictionary doesn't have and that are short or have no vowel, "PBXs" too."""
    word = match[0]
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    if before == _LETTER or (word.startswith("s") and before == "'"):
        return word
    stem, plural = (word[: -len(end)], "s") if (end := _plural(word)) else (word, "")
    if len(stem) == 1 and not plural:
        alone = not re.search(r"[A-Za-z0-9]", match.string[: match.start()] + match.string[match.end() :])
        spelled = alone or (stem.isupper() and stem not in "AI") or before.isdecimal() or after.isdecimal()
        return _LETTER + stem.lower() if spelled and before != "'" and after != "'" else word
    if not stem.isupper() or len(stem) < 2:
        return word
    if shouting or stem not in SPELLED:
        pronounceable = re.search(r"[AEIOUY]", stem) and (shouting or len(stem) > 4)
        if stem.lower() in dictionary or pronounceable:
            return word
    return " ".join(_LETTER + letter.lower() for letter in stem) + (f"'{plural}" if plural else "")


def _plural(word: str) -> str:
    return next((end for end in ("'s", "s") if word.endswith(end) and word[: -len(end)].isupper()), "")


def _chunk_words(chunk: str, dictionary: Dictionary, text: str) -> list[tuple[str, bool]]:
    """Words, and whether each is a letter, of a chunk without spaces."""
    words: list[tuple[str, bool]] = []
    for piece in re.findall(rf"{_LETTER}[a-z](?:'?s\b)?|[^{_LETTER}]+", chunk.lower()):
        if piece[0] == _LETTER:
            # CMUdict writes the plural and the possessive of a letter name as "x.s".
            words.append((f"{piece[1]}.s" if len(piece) > 2 else f"{piece[1]}.", True))
            continue
        for part in re.split(r"[^\w'\-]+|_", piece):
            part = part.strip("-")
            # The dictionary has words such as "'cause" and "o'".
            part = part if part in dictionary else part.strip("'")
            words.extend((word, False) for word in _split_hyphens(part, dictionary))
    for word, _ in words:
        foreign = [
            letter for letter in word if letter.isalnum() and not unicodedata.name(letter, "").startswith("LATIN")
        ]
        if foreign:
            raise UnusableError(
                "text-unpronounceable",
                f"the text {text!r} has {foreign[0]!r} in {word!r}, expected words in Latin letters",
            )
    return words


def _split_hyphens(part: str, dictionary: Dictionary) -> list[str]:
    if "-" not in part or part in dictionary:
        return [part] if re.search(r"\w", part) else []
    pieces = [piece for piece in part.split("-") if re.search(r"\w", piece)]
    joined = "".join(pieces)
    # "re-enter", "e-mail" and "de-activated" are one word, "call-forward" is two.
    if len(pieces) == 2 and len(pieces[0]) <= 3 and joined in dictionary:
        return [joined]
    return pieces


def _letters(text: str) -> str:
    return " ".join(_LETTER + letter for letter in text.lower() if letter.isalpha())


def _address(match: re.Match[str]) -> str:
    """Web and mail addresses: www is spelled, dots, at signs and slashes are said."""
    address = re.sub(r"^https?://", "", match[0]).rstrip("./")
    address = re.sub(r"(?i)\bwww\b", _letters("www"), address)
    for sign, word in ((".", "dot"), ("@", "at"), ("/", "slash"), ("-", "dash"), ("_", "underscore")):
        address = address.replace(sign, f" {word} ")
    return address + ("." if match[0].endswith(".") else "")


def _groups(match: re.Match[str]) -> str:
    """Telephone numbers: digit by digit with a pause between groups."""
    return ", ".join(numbers.digits(group) for group in re.findall(r"\d+", match[0]))


def _clock(match: re.Match[str]) -> str:
    suffix = match[3] or ""
    return f"{numbers.clock(match[1], match[2], bool(suffix))} {_letters(suffix)} "


def _mixed(match: re.Match[str]) -> str:
    """Letters and digits in one word: "H.323", "3D", "B2B", "mp3"."""
    parts = re.findall(r"\d+|[A-Za-z]+", match[0])
    spoken = []
    for part in parts:
        if part.isdecimal():
            spoken.append(numbers.digits(part) if len(part) > 2 else numbers.cardinal(part))
        else:
            spoken.append(_letters(part) if part.isupper() or len(part) <= 2 else part)
    return " ".join(spoken)


def _integer(match: re.Match[str]) -> str:
    text = match[0]
    if len(text) >= 7 and "," not in text:
        return numbers.digits(text)
    return numbers.cardinal(text)


def _range(match: re.Match[str]) -> str:
    """ "10-20" is "10 to 20"; "50-50" is not."""
    return f"{match[1]} {'to ' if int(match[1]) < int(match[2]) else ''}{match[2]}"


def _unit(match: re.Match[str]) -> str:
    one, many = UNITS[match[2]]
    return f"{match[1]} {one if match[1] == '1' else many} "


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _month_day(match: re.Match[str]) -> str:
    month = numbers.MONTHS[match[1][:3].lower()]
    return f"{month} {numbers.ordinal(match[2])}"


def _date(match: re.Match[str]) -> str:
    if 1 <= int(match[1]) <= 12 and 1 <= int(match[2]) <= 31:
        return numbers.date(match[1], match[2], match[3])
    return match[0].replace("/", " ")


def _amount(match: re.Match[str]) -> str:
    amount = match[2].rstrip(",")
    return numbers.money(match[1], amount, match[3] or "") + match[2][len(amount) :]


def _roman(match: re.Match[str]) -> str:
    """After a capitalised word: "World War II", "Part IV", else as a name has it ("Henry VIII")."""
    value = str(ROMAN_NUMERALS[match[2]])
    return f"{match[1]} {numbers.cardinal(value) if match[1] in COUNTED_BY_ROMANS else 'the ' + numbers.ordinal(value)}"


def _rule(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> tuple[re.Pattern[str], Any]:
    return re.compile(pattern), replacement


# Applied in this order; each sees what the ones before it left.
_RULES = (
    _rule(r"(?i)\bhttps?://\S+|\bwww\.\S+|\b[\w.-]+@[\w-]+\.[\w.-]+|\b[\w-]+\.(?:com|org|net|edu|gov)\b\S*", _address),
    _rule(r"(?<=[A-Za-z])([,;:!?…])(?=[A-Za-z])", r"\1 "),
    _rule(r"(?<=\d)\s?-\s?(?=[$£€]|\d{1,2}:\d)", " to "),
    # Times of day. A full stop that ends the text still asks for a pause.
    _rule(r"\b(\d{1,2}):([0-5]\d)(?:\s*([AaPp]\.?\s?[Mm]\b)\.?)?", _clock),
    _rule(r"\b(\d{1,2})\s*([AaPp]\.?[Mm]\b)\.?", lambda m: f"{m[1]} {_letters(m[2])} "),
    _rule(r"(?i)\b([ap])\.\s?m\.(?=\s*$)", lambda m: _letters(m[0]) + "."),
    _rule(r"(?i)\b([ap])\.\s?m\b\.?", lambda m: _letters(m[0])),
    # Abbreviations.
    _rule(rf"\b({_alternatives(BEFORE_NUMBERS)})\.\s*(?=\d)", lambda m: BEFORE_NUMBERS[m[1]] + " "),
    _rule(r"\b(St|Dr)\.(?=\s+[A-Z])", lambda m: STREET_OR_SAINT[m[1]][0]),
    _rule(r"\b(St|Dr)\b\.?(?=\s*(?:[,;:!?]|$)|\s+[a-z])", lambda m: STREET_OR_SAINT[m[1]][1]),
    _rule(rf"(?<![\w.])({_alternatives(ABBREVIATIONS)})\.(?=\s*$)", lambda m: ABBREVIATIONS[m[1]] + "."),
    _rule(rf"(?<![\w.])({_alternatives(ABBREVIATIONS)})\.(?!\w)", lambda m: ABBREVIATIONS[m[1]]),
    _rule(r"\bDr\b(?=\s)", "doctor"),
    _rule(r"\b(Mr|vs)\b(?=\s)", lambda m: ABBREVIATIONS[m[1]]),
    # Initials: U.S., J. Smith, AT&T.
    _rule(r"\b(?:[A-Za-z]\.){2,}(?=\s*$)", lambda m: _letters(m[0]) + "."),
    _rule(r"\b(?:[A-Za-z]\.){2,}", lambda m: _letters(m[0]) + " "),
    _rule(r"\b([A-Z])\.(?=\s+[A-Z](?:\.|[a-z]))", lambda m: _letters(m[1])),
    _rule(r"\b([A-Z]{1,3})&([A-Z]{1,3})\b", lambda m: f"{_letters(m[1])} and {_letters(m[2])}"),
    _rule(rf"\b([A-Z][a-z]+) ({_alternatives(ROMAN_NUMERALS)})\b", _roman),
    # Digits: dates, telephone numbers, money, ordinals, fractions, codes, years, then plain numbers.
    _rule(r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b", _date),
    _rule(r"(?:\+?\d[- ])?(?:\(\d{3}\) ?|\b\d{3}[-. ])\d{3}[-.]\d{4}\b|\b\d{3}-\d{4}\b", _groups),
    _rule(rf"([$£€])(\d[\d,]*(?:\.\d+)?)(?:\s*({_SCALES})\b)?", _amount),
    _rule(rf"(?i)\b({_MONTH_NAMES})\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)", _month_day),
    _rule(r"\b(\d[\d,]*)(?:st|nd|rd|th)\b", lambda m: numbers.ordinal(m[1])),
    _rule(r"'?\b(\d{3}0|\d0)'?s\b", lambda m: numbers.decade(m[1])),
    _rule(r"\b(\d{1,2})/(\d{1,3})\b", lambda m: numbers.fraction(m[1], m[2])),
    _rule(
        rf"(?i)\b({_CODE_WORDS}(?:\s+(?:number|is|code))*)\s+(\d{{3,}})\b", lambda m: f"{m[1]} {numbers.digits(m[2])}"
    ),
    _rule(rf"(?i)\b({_YEAR_AFTER},?)\s+(1\d{{3}}|20\d{{2}})\b(?![,.]\d)", lambda m: f"{m[1]} {numbers.year(m[2])}"),
    _rule(rf"(\d[\d,.]*)\s?({_alternatives(UNITS)})(?![\w])", _unit),
    _rule(r"\b(\d+)\s?-\s?(\d+)\b", _range),
    _rule(r"(?<![\w)])-(?=[\d.])", "minus "),
    _rule(r"\b\d{1,3}(?:,\d{3})+(?![\d,]*\.\d)\b", _integer),
    _rule(r"(?<![\w.])(?:\d[\d,]*)?(?:\.\d+)+(?!\d)", lambda m: numbers.decimal(m[0]) + " "),
    _rule(r"\b(?:[A-Za-z]{1,5}[.-]?\d+[A-Za-z]{0,2}|\d+[A-Za-z]{1,2}\d*)\b", _mixed),
    _rule(r"\b(?:19|20)\d\d\b", lambda m: numbers.year(m[0])),
    _rule(r"\d+", _integer),
    _rule(r"#(?=\s*(?:one|two|three|four|five|six|seven|eight|nine)\b)", " number "),
    _rule(rf"[{re.escape(''.join(SYMBOLS))}]", lambda m: f" {SYMBOLS[m[0]]} "),
)
