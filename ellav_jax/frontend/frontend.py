"""Frontend: what turns text and recordings into phones, as `frontend.json` holds it.

Prepare writes it, training copies it, checkpoints and exports carry it, synthesis reads it; `check_same` guards each
door.
"""

import dataclasses
import math
from importlib import metadata
from pathlib import Path
from typing import Any

from ellav_jax import files
from ellav_jax.errors import InputError
from ellav_jax.frontend import dictionary as dictionaries
from ellav_jax.frontend.espeak import check_voice
from ellav_jax.frontend.inventory import ARPABET, IPA, SIL, phone_inventory, without_stress
from ellav_jax.frontend.pocketsphinx_settings import pocketsphinx_name
from ellav_jax.frontend.spoken_words import normalizer_name

SCHEMA_VERSION = 2

POCKETSPHINX = "pocketsphinx"
TEXTGRID = "textgrid"

_AMERICAN = "en-us"


@dataclasses.dataclass(frozen=True)
class Frontend:
    """One definition of text, phones and silence; a phone's id is its index in `phones`."""

    phones: tuple[str, ...]
    """Phone names, "SIL" first."""
    phone_set: str
    """ "arpabet", or "ipa" for phones as an IPA dictionary has them."""
    stress: bool
    """Whether vowels carry stress: a digit in ARPAbet (AH0, AH1, AH2), a mark in IPA (ˈuː)."""
    dictionary: str
    """File name of the pronouncing dictionary."""
    dictionary_sha256: str
    """Hex SHA-256 of the dictionary's bytes."""
    g2p: str
    """What pronounces words out of the dictionary, with the versions of its packages."""
    g2p_language: str
    """The language, an espeak-ng voice name."""
    normalizer: str
    """What writes numbers, abbreviations and symbols as words, with its version."""
    aligner: str
    """What finds the phones' boundaries in recordings: "pocketsphinx VERSION" with its settings, or "textgrid" for files
    that another aligner wrote."""
    silence_as_phone: bool = True
    """Whether silence is the phone SIL (so that pauses can be controlled) or part of its neighbours, which is the
    paper's likely rule (unknown in the paper)."""
    silence_min_seconds: float = 0.1
    """SIL inside an utterance that is shorter than this joins the preceding phone. Unknown in the paper; chosen because
    the closure of a stop consonant stays below about 0.1 s and should not count as a pause."""
    edge_silence_seconds: float = 0.15
    """Recordings are trimmed so that at most this much SIL stands at each edge. Unknown in the paper."""
    pause_marks: str = ",;:.!?…—"
    """Punctuation that asks for SIL when text is spoken."""
    schema_version: int = SCHEMA_VERSION
    """Version of this file's layout."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field, getattr(self, field.name))
        _expect(self.schema_version == SCHEMA_VERSION, "schema_version", self.schema_version, str(SCHEMA_VERSION))
        _expect(self.phones[:1] == (SIL,), "phones", list(self.phones[:3]), f"{SIL!r} first")
        _expect(len(set(self.phones)) == len(self.phones), "phones", _repeated(self.phones), "no name twice")
        _expect(self.phone_set in (ARPABET, IPA), "phone_set", self.phone_set, f"{ARPABET} or {IPA}")
        self._check_phones()
        spoken = self.phone_set == ARPABET and self.g2p_language == _AMERICAN
        _expect(
            self.phone_set == IPA or spoken, "g2p_language", self.g2p_language, f"{_AMERICAN} for phones in ARPAbet"
        )
        aligned = self.aligner == TEXTGRID or (self.aligner.startswith(f"{POCKETSPHINX} ") and spoken)
        _expect(aligned, "aligner", self.aligner, f"{TEXTGRID}, or for ARPAbet {POCKETSPHINX} with its version")
        hexadecimal = len(self.dictionary_sha256) == 64 and set(self.dictionary_sha256) <= set("0123456789abcdef")
        _expect(hexadecimal, "dictionary_sha256", self.dictionary_sha256, "64 hexadecimal digits")
        for name in ("silence_min_seconds", "edge_silence_seconds"):
            value = getattr(self, name)
            _expect(math.isfinite(value) and value >= 0, name, value, "a number of seconds, 0 or more")

    def _check_phones(self) -> None:
        if self.phone_set == ARPABET:
            inventory = phone_inventory(self.stress)
            unknown = sorted(set(self.phones) - set(inventory))
            _expect(not unknown, "phones", unknown, f"names out of {' '.join(inventory)}")
            return
        broken = [phone for phone in self.phones if phone.split() != [phone]]
        _expect(not broken, "phones", broken, "names without spaces")
        stressed = [phone for phone in self.phones if not self.stress and phone != without_stress(phone, IPA)]
        _expect(not stressed, "phones", stressed, "phones without stress marks, as stress is off")

    def to_json(self, path: str | Path) -> None:
        """Writes `frontend.json` atomically."""
        files.write_json(path, dataclasses.asdict(self))

    @classmethod
    def from_json(cls, path: str | Path) -> "Frontend":
        """Reads `frontend.json`. Raises InputError naming the field, what was found and what was expected."""
        return cls.from_dict(files.read_json(path, "frontend description"), str(path))

    @classmethod
    def from_dict(cls, content: Any, where: str) -> "Frontend":
        """The content of `frontend.json`, found at `where`. Raises InputError as `from_json`."""
        if not isinstance(content, dict):
            raise InputError(f"{where}: found {type(content).__name__}, expected an object with the frontend's fields")
        names = {field.name for field in dataclasses.fields(cls)}
        for name in sorted(names ^ set(content)):
            found, expected = (
                ("missing", "the field") if name in names else ("an unknown field", f"one of {sorted(names)}")
            )
            raise InputError(f"{where}: field {name!r}: found {found}, expected {expected}")
        phones = content["phones"]
        try:
            return cls(**content | {"phones": tuple(phones) if isinstance(phones, list) else phones})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def check_same(self, other: "Frontend", where: str) -> None:
        """Raises InputError listing every field in which `other`, found at `where`, differs from this frontend."""
        differences = []
        for field in dataclasses.fields(self):
            expected, found = getattr(self, field.name), getattr(other, field.name)
            if expected != found:
                differences.append(f"{field.name} is {found!r}, expected {expected!r}")
        if differences:
            raise InputError(
                f"{where} has another frontend: {'; '.join(differences)}; "
                "use data and models prepared with the same frontend"
            )


def default_frontend(
    dictionary: str | Path | None = None,
    stress: bool = False,
    aligner: str = POCKETSPHINX,
    language: str = _AMERICAN,
) -> Frontend:
    """The frontend of this installation.

    dictionary: a file in MFA's or CMUdict's format, in ARPAbet or IPA, in place of pocketsphinx's CMUdict; `stress`
    needs one with stress, another language than "en-us" (a voice of espeak-ng) one in IPA. The phones are all of
    ARPAbet, or those that the IPA dictionary uses. aligner: POCKETSPHINX for ARPAbet, or TEXTGRID.
    Raises InputError when these don't go together, when the file is missing or malformed, or carries no stress where it
    is asked for.
    """
    if aligner not in (POCKETSPHINX, TEXTGRID):
        raise InputError(f"aligner: found {aligner!r}, expected {POCKETSPHINX} or {TEXTGRID}")
    phone_set, phones = ARPABET, phone_inventory(stress)
    if language != _AMERICAN:
        check_voice(language)
        if dictionary is None:
            raise InputError(
                f"language {language!r} has no dictionary here; give one in IPA (MFA has many), or let "
                f"`ellav prepare CORPUS OUT --write-mfa DIR --language {language}` write one"
            )
    path = Path(dictionary) if dictionary is not None else dictionaries.bundled_dictionary_path()
    if dictionary is not None or stress:
        content = dictionaries.load_dictionary(path, stress)
        if content.phone_set == IPA:
            phone_set, phones = IPA, (SIL, *content.phones())
        if phone_set == ARPABET and language != _AMERICAN:
            raise InputError(
                f"{path}: the dictionary is in ARPAbet, which has the phones of American English ({_AMERICAN}); "
                f"expected one in IPA for {language!r}"
            )
        if phone_set == IPA and aligner == POCKETSPHINX:
            raise InputError(
                f"{path}: the dictionary is in IPA, but pocketsphinx aligns American English in ARPAbet only; give "
                "alignments made with MFA (--aligner textgrid:DIR; --write-mfa DIR writes what MFA needs)"
            )
    return Frontend(
        phones=phones,
        phone_set=phone_set,
        stress=stress,
        dictionary=path.name,
        dictionary_sha256=files.sha256_of_file(path),
        g2p=f"phonemizer {metadata.version('phonemizer')}, espeakng-loader {metadata.version('espeakng-loader')}",
        g2p_language=language,
        normalizer=normalizer_name(language),
        aligner=pocketsphinx_name() if aligner == POCKETSPHINX else TEXTGRID,
    )


def _check_type(field: dataclasses.Field[Any], value: object) -> None:
    if field.type == tuple[str, ...]:
        correct = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        _expect(correct, field.name, value, "a list of strings")
    elif field.type is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), field.name, value, "a number")
    else:
        _expect(type(value) is field.type, field.name, value, f"a value of type {field.type.__name__}")


def _expect(condition: bool, field: str, found: object, expected: str) -> None:
    if not condition:
        raise InputError(f"field {field!r}: found {found!r}, expected {expected}")


def _repeated(names: tuple[str, ...]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
