"""Pronunciations of words out of the dictionary: espeak-ng through phonemizer (no system package: espeakng-loader)."""

import logging

from ellav_jax.errors import InputError
from ellav_jax.frontend.ipa import arpabet


class EspeakPronouncer:
    """Word → ARPAbet phones, each word on its own so that the result doesn't depend on its sentence."""

    def __init__(self, language: str, stress: bool):
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper

        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        if not EspeakBackend.is_supported_language(language):
            raise InputError(f"g2p_language: found {language!r}, expected a voice of espeak-ng such as 'en-us'")
        # phonemizer logs each language switch and word-count mismatch to stderr; unmapped symbols raise below instead.
        logger = logging.getLogger("ellav_jax.phonemizer")
        logger.setLevel(logging.CRITICAL)
        self._backend = EspeakBackend(language, with_stress=True, language_switch="remove-flags", logger=logger)
        self._stress = stress
        self._cache: dict[str, tuple[str, ...]] = {}

    def pronounce(self, word: str) -> tuple[str, ...]:
        """Phones of one word. Raises InputError when espeak-ng gives none or one that has no ARPAbet phone."""
        if word not in self._cache:
            self._cache[word] = self._pronounce(word)
        return self._cache[word]

    def _pronounce(self, word: str) -> tuple[str, ...]:
        from phonemizer.separator import Separator

        separator = Separator(phone="_", word=" ")
        transcription = self._backend.phonemize([word], separator=separator, strip=True)[0]
        segments = [segment for segment in transcription.replace(" ", "_").split("_") if segment]
        if not segments:
            raise InputError(f"the word {word!r} has no pronunciation; spell it as it is spoken")
        try:
            return arpabet(segments, self._stress)
        except InputError as error:
            raise InputError(f"the word {word!r} cannot be pronounced: {error}; spell it as it is spoken") from None
