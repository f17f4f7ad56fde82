"""Pronunciations of words out of the dictionary: espeak-ng through phonemizer (no system package: espeakng-loader)."""

import logging
import threading
from typing import TYPE_CHECKING

from ellav_jax.errors import InputError, UnusableError
from ellav_jax.frontend.inventory import ARPABET, phone_name
from ellav_jax.frontend.ipa import arpabet

if TYPE_CHECKING:
    from phonemizer.backend import EspeakBackend

_ESPEAK = threading.Lock()


class EspeakPronouncer:
    """Word → phones of `phone_set`, each word on its own so that the result doesn't depend on its sentence.

    language: a voice of espeak-ng; ARPAbet needs "en-us". Raises InputError as `check_voice`.
    """

    def __init__(self, language: str, stress: bool, phone_set: str = ARPABET):
        check_voice(language)
        # phonemizer logs each language switch and word-count mismatch to stderr; unmapped symbols raise below instead.
        logger = logging.getLogger("ellav_jax.phonemizer")
        logger.setLevel(logging.CRITICAL)
        self._backend = _backend_class()(language, with_stress=True, language_switch="remove-flags", logger=logger)
        self._stress, self._phone_set = stress, phone_set
        self._cache: dict[str, tuple[str, ...]] = {}

    def pronounce(self, word: str) -> tuple[str, ...]:
        """Phones of one word.

        Raises UnusableError ("text-unpronounceable") when espeak-ng gives none or one that has no ARPAbet phone.
        """
        # espeak-ng keeps the word it is at in global variables: two threads would get each other's phones.
        with _ESPEAK:
            if word not in self._cache:
                self._cache[word] = self._pronounce(word)
            return self._cache[word]

    def _pronounce(self, word: str) -> tuple[str, ...]:
        from phonemizer.separator import Separator

        separator = Separator(phone="_", word=" ")
        transcription = self._backend.phonemize([word], separator=separator, strip=True)[0]
        segments = [segment for segment in transcription.replace(" ", "_").split("_") if segment]
        if not segments:
            raise UnusableError(
                "text-unpronounceable", f"the word {word!r} has no pronunciation; spell it as it is spoken"
            )
        if self._phone_set != ARPABET:
            return tuple(phone_name(segment, self._phone_set, self._stress) for segment in segments)
        try:
            return arpabet(segments, self._stress)
        except InputError as error:
            raise UnusableError(
                "text-unpronounceable", f"the word {word!r} cannot be pronounced: {error}; spell it as it is spoken"
            ) from None


def check_voice(language: str) -> None:
    """Raises InputError when espeak-ng has no voice of that name."""
    voices = _backend_class().supported_languages()
    if language not in voices:
        stem = language.split("-")[0]
        near = [voice for voice in voices if voice.split("-")[0] == stem]
        hint = f"of that language there are {', '.join(near)}" if near else "such as 'en-us', 'de' or 'fr-fr'"
        raise InputError(f"language: found {language!r}, expected a voice of espeak-ng; {hint}")


def _backend_class() -> "type[EspeakBackend]":
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend
