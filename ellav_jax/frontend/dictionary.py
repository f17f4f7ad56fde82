"""Pronouncing dictionaries: pocketsphinx's CMUdict, or a file in MFA's or CMUdict's format, in ARPAbet or in IPA."""

import importlib.util
import re
import unicodedata
from pathlib import Path

from ellav_jax.errors import InputError
from ellav_jax.frontend.inventory import (
    ARPABET,
    IPA,
    SIL,
    STRESS_MARKS,
    VOWELS,
    phone_inventory,
    phone_name,
)

# Pronunciations that MFA's dictionaries give to noise, unknown words and silence: no words of a text.
_NON_SPEECH = {"spn", "sil", "sp", "<eps>", "SPN", SIL, "SP"}

_ARPABET_PHONES = {*phone_inventory(True), *phone_inventory(False)} - {SIL}

Pronunciation = tuple[str, ...]


class Dictionary:
    """Words and their pronunciations, the most probable (or first) one first. Lookups ignore case.

    phone_set: ARPABET or IPA.
    """

    def __init__(self, entries: dict[str, list[Pronunciation]], phone_set: str = ARPABET):
        self._entries = entries
        self.phone_set = phone_set

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, word: str) -> bool:
        return _key(word) in self._entries

    def pronunciations(self, word: str) -> tuple[Pronunciation, ...]:
        """All pronunciations of `word`; empty when it is not in the dictionary."""
        return tuple(self._entries.get(_key(word), ()))

    def phones(self) -> tuple[str, ...]:
        """All phones that it uses, sorted."""
        return tuple(sorted({phone for items in self._entries.values() for phones in items for phone in phones}))


def bundled_dictionary_path() -> Path:
    """CMUdict as the pocketsphinx package carries it (no stress, alternates as `read(2)`)."""
    spec = importlib.util.find_spec("pocketsphinx")
    if spec is None or spec.origin is None:
        raise InputError(
            "the pocketsphinx package is not installed; pip install pocketsphinx, or pass a dictionary file"
        )
    return Path(spec.origin).parent / "model" / "en-us" / "cmudict-en-us.dict"


def load_dictionary(path: str | Path, stress: bool) -> Dictionary:
    """Reads lines of `WORD [PROBABILITY …] PHONE PHONE …`, separated by tabs or spaces.

    That covers MFA's format (optional probability columns; pronunciations are sorted by the first of them) and
    CMUdict's (alternates as `word(2)`). The first word decides between ARPAbet and IPA. Without `stress` stress digits
    and marks are stripped, and equal pronunciations merge.
    Raises InputError for a missing or empty file, a line without phones, a phone of another set than the first word's,
    and `stress` without stress in the file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such dictionary file") from None
    except OSError as error:
        raise InputError(f"{path}: the dictionary can't be read ({error.strerror}); give a text file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the dictionary is not UTF-8 text ({error})") from None
    # Each symbol as it stands in the file → the phone's name in this frontend.
    names: dict[str, str] = {}
    phone_set = ""
    weighted: dict[str, list[tuple[float, Pronunciation]]] = {}
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns or line.startswith(";;;"):
            continue
        word, probability, symbols = _parse(columns)
        if not _NON_SPEECH.isdisjoint(symbols):
            continue
        if not symbols:
            raise InputError(f"{path}: line {number}: found {word!r} without phones, expected a word and its phones")
        phone_set = phone_set or (ARPABET if _ARPABET_PHONES.issuperset(symbols) else IPA)
        for symbol in symbols:
            if symbol not in names:
                if complaint := _complaint(symbol, phone_set, stress):
                    raise InputError(f"{path}: line {number}: {complaint}")
                names[symbol] = phone_name(symbol, phone_set, stress)
        phones = tuple([names[symbol] for symbol in symbols])
        pronunciations = weighted.setdefault(word, [])
        if all(phones != other for _, other in pronunciations):
            pronunciations.append((probability, phones))
    if not weighted:
        raise InputError(f"{path}: no words; expected lines of a word and its phones")
    if stress and phone_set == IPA and not any(mark in symbol for symbol in names for mark in STRESS_MARKS):
        raise InputError(f"{path}: found no phone with a stress mark ({', '.join(STRESS_MARKS)}); turn stress off")
    # The sort is stable: equal probabilities keep the file's order.
    entries = {
        word: [phones for _, phones in sorted(items, key=lambda item: -item[0])] for word, items in weighted.items()
    }
    return Dictionary(entries, phone_set)


def _key(word: str) -> str:
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", word).lower().replace("\u2019", "'")


def _parse(columns: list[str]) -> tuple[str, float, Pronunciation]:
    word = _key(columns[0])
    if word.endswith(")"):
        word = re.sub(r"\(\d+\)$", "", word)
    first = 1
    while first < len(columns) and columns[first][0] in "0123456789.-" and _is_number(columns[first]):
        first += 1
    return word, float(columns[1]) if first > 1 else 1.0, tuple(columns[first:])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _complaint(symbol: str, phone_set: str, stress: bool) -> str:
    """What is wrong with a symbol of a dictionary in `phone_set`; empty when nothing is."""
    if phone_set == IPA:
        if symbol in _ARPABET_PHONES:
            return f"found the ARPAbet phone {symbol!r} among IPA, expected one of the two in all of the file"
        return (
            "" if phone_name(symbol, IPA, False) else f"found the stress mark {symbol!r} alone, expected it on a phone"
        )
    if symbol not in _ARPABET_PHONES:
        return f"found phone {symbol!r} among ARPAbet, expected ARPAbet phones as in CMUdict, or IPA in all of the file"
    if stress and symbol in VOWELS:
        return f"found vowel {symbol!r} without stress, expected {symbol}0, {symbol}1 or {symbol}2; turn stress off"
    return ""
