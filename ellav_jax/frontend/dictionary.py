"""Pronouncing dictionaries: pocketsphinx's CMUdict, or a file in MFA's or CMUdict's format."""

import importlib.util
import re
from pathlib import Path

from ellav_jax.errors import InputError
from ellav_jax.frontend.inventory import SIL, VOWELS, phone_inventory, without_stress

# Pronunciations that MFA's dictionaries give to noise, unknown words and silence: no words of a text.
_NON_SPEECH = {"spn", "sil", "sp", "<eps>", "SPN", SIL, "SP"}

Pronunciation = tuple[str, ...]


class Dictionary:
    """Words and their pronunciations, the most probable (or first) one first. Lookups ignore case."""

    def __init__(self, entries: dict[str, list[Pronunciation]]):
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, word: str) -> bool:
        return word.lower() in self._entries

    def pronunciations(self, word: str) -> tuple[Pronunciation, ...]:
        """All pronunciations of `word`; empty when it is not in the dictionary."""
        return tuple(self._entries.get(word.lower(), ()))


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
    CMUdict's (alternates as `word(2)`). Without `stress` stress digits are stripped, and equal pronunciations merge.
    Raises InputError for a missing or empty file, a line without phones, a phone that is not ARPAbet, and `stress`
    without stress digits in the file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such dictionary file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the dictionary is not UTF-8 text ({error})") from None
    # Each phone as it stands in the file → as this frontend writes it; what is not in here is not ARPAbet.
    names = {phone: phone if stress else without_stress(phone) for phone in phone_inventory(True)}
    if not stress:
        names.update({phone: phone for phone in phone_inventory(False)})
    weighted: dict[str, list[tuple[float, Pronunciation]]] = {}
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns or line.startswith(";;;"):
            continue
        word, probability, file_phones = _parse(columns)
        if not _NON_SPEECH.isdisjoint(file_phones):
            continue
        try:
            phones = tuple([names[phone] for phone in file_phones])
        except KeyError as error:
            raise InputError(f"{path}: line {number}: {_complaint(error.args[0], stress)}") from None
        if not phones:
            raise InputError(f"{path}: line {number}: found {word!r} without phones, expected a word and its phones")
        pronunciations = weighted.setdefault(word, [])
        if all(phones != other for _, other in pronunciations):
            pronunciations.append((probability, phones))
    if not weighted:
        raise InputError(f"{path}: no words; expected lines of a word and its phones")
    # The sort is stable: equal probabilities keep the file's order.
    return Dictionary(
        {word: [phones for _, phones in sorted(items, key=lambda item: -item[0])] for word, items in weighted.items()}
    )


def _parse(columns: list[str]) -> tuple[str, float, Pronunciation]:
    word = columns[0].lower()
    if word.endswith(")"):
        word = re.sub(r"\(\d+\)$", "", word)
    first = 1
    while first < len(columns) and columns[first][0] in "0123456789.-":
        first += 1
    try:
        probability = float(columns[1]) if first > 1 else 1.0
    except ValueError:
        probability = 1.0
    return word, probability, tuple(columns[first:])


def _complaint(phone: str, stress: bool) -> str:
    if stress and phone in VOWELS:
        return f"found vowel {phone!r} without stress, expected {phone}0, {phone}1 or {phone}2; turn stress off"
    return f"found phone {phone!r}, expected ARPAbet phones as in CMUdict"
