"""Text as written → words as spoken, in any language: the one door to the normalisers."""

from ellav_jax.frontend import basic_normalizer, normalizer
from ellav_jax.frontend.dictionary import Dictionary
from ellav_jax.frontend.spoken_word import SpokenWord


def spoken_words(text: str, language: str, dictionary: Dictionary, pause_marks: str) -> list[SpokenWord]:
    """The words of `text` as a reader of `language` (a voice of espeak-ng) says them.

    `dictionary` tells words from initials and parts. Raises UnusableError: "text-empty" when no word is left,
    "text-unpronounceable" for what has no reading.
    """
    if is_english(language):
        return normalizer.spoken_words(text, dictionary, pause_marks)
    return basic_normalizer.spoken_words(text, language, dictionary, pause_marks)


def normalizer_name(language: str) -> str:
    """Which rules `spoken_words` follows, with their version."""
    return normalizer.NAME_AND_VERSION if is_english(language) else basic_normalizer.NAME_AND_VERSION


def is_english(language: str) -> bool:
    """Whether an espeak-ng voice speaks a kind of English."""
    return language.split("-")[0] == "en"
