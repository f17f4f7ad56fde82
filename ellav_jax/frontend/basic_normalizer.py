"""Text as written → words as spoken, for every language but English.

Transcripts of speech corpora are mostly written as they are spoken, so the rules are few: lower case, words apart from
punctuation, whole numbers by num2words. What would need the language's own rules (dates, decimals, signs) is refused,
not guessed. Languages written without spaces need their words put apart beforehand.
"""

import dataclasses
import re
import unicodedata
from importlib import metadata

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.dictionary import Dictionary
from ellav_jax.frontend.spoken_word import SpokenWord

NAME_AND_VERSION = f"ellav-basic 1, num2words {metadata.version('num2words')}"

_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("\u2019\u2018\u02bc\u2032", "'"),
        **dict.fromkeys("\u2010\u2011", "-"),
        "\u00ad": None,
        "\u2013": "—",
        "…": " … ",
        **dict.fromkeys("。।۔", "."),
        **dict.fromkeys("、،", ","),
        "؛": ";",
        "؟": "?",
    }
)
"""Apostrophes and hyphens as ASCII has them, no soft hyphens, and other scripts' punctuation as pause marks know it."""

_JOINERS = "\u200c\u200d"
"""Zero-width signs that belong to words of Persian and of Indian scripts."""

_OTHER_SCRIPTS = {
    "am", "ar", "as", "ba", "be", "bg", "bn", "bpy", "chr", "cmn", "cv", "el", "fa", "grc", "gu", "hak", "he", "hi",
    "hy", "hyw", "ja", "ka", "kk", "kn", "ko", "kok", "ky", "mk", "ml", "mr", "my", "ne", "nog", "or", "pa", "piqd",
    "ru", "sd", "shn", "si", "sr", "ta", "te", "th", "ti", "tt", "ug", "uk", "ur", "yue",
}  # fmt: skip
"""Languages that aren't written in Latin letters. In the others espeak-ng names a foreign letter ("Cyrillic p")."""

_NUMBER_LANGUAGES = {"nb": "no", "kk": "kz"}
"""num2words' name of a language where it isn't espeak-ng's."""

_LARGEST_DIGITS = 15
"""Longer runs of digits are codes, which have no one reading."""


def spoken_words(text: str, language: str, dictionary: Dictionary, pause_marks: str) -> list[SpokenWord]:
    """The words of `text`: letters of any script, apostrophes and hyphens inside words, whole numbers as cardinals.

    A word with hyphens that `dictionary` doesn't have is split at them. Annotations in angle or square brackets, emoji
    and ornaments are left out. Raises UnusableError: "text-empty" when no word is left, "text-unpronounceable" for
    signs ("%", "€"), numbers with marks in them ("3,5", "12:30"), and letters that the language isn't written in.
    """
    text_only = re.sub(r"<[^<>]*>|\[[^\[\]]*\]", " ", text)
    clean = unicodedata.normalize("NFKC", text_only.translate(_TYPOGRAPHIC)).translate(_TYPOGRAPHIC)
    # Also as written: NFKC makes "m2" of "m²".
    if sign := next((sign for sign in text_only + clean if _needs_reading(sign)), None):
        raise _unpronounceable(sign, text)
    if number := re.search(r"\d+(?:[.,:/'—-]\d+)+", clean):
        raise _unpronounceable(number[0], text)
    words: list[SpokenWord] = []
    for piece in _pieces(clean):
        if piece[0].isdecimal():
            words += [SpokenWord(word, False, False) for word in _number_words(piece, language, text)]
        elif _is_word_sign(piece[0]):
            _check_letters(piece, language, text)
            parts = [piece] if piece in dictionary else piece.split("-")
            words += [SpokenWord(part.lower(), False, False) for part in parts]
        elif piece in pause_marks and words:
            words[-1] = dataclasses.replace(words[-1], pause_after=True)
    if not words:
        raise UnusableError(
            "text-empty", f"the text {text!r} has no words to speak; expected at least one word or number"
        )
    return words


def _pieces(text: str) -> list[str]:
    """Words, runs of digits, and every other sign but spaces on its own."""
    pieces: list[str] = []
    kind = ""
    for place, sign in enumerate(text):
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        inside = kind == "word" and bool(before and after) and _is_word_sign(before) and _is_word_sign(after)
        if _is_word_sign(sign) or (sign in "'-" + _JOINERS and inside):
            found = "word"
        else:
            found = "number" if sign.isdecimal() else "other"
        if found == kind and kind != "other":
            pieces[-1] += sign
        elif not sign.isspace():
            pieces.append(sign)
        kind = "" if sign.isspace() else found
    return pieces


def _is_word_sign(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "LM"


def _needs_reading(sign: str) -> bool:
    return unicodedata.category(sign) in ("Sc", "Sm", "No") or sign in "%‰&@#§°ªº№"


def _check_letters(word: str, language: str, text: str) -> None:
    if language.split("-")[0] in _OTHER_SCRIPTS:
        return
    for sign in word:
        if sign.isalpha() and not unicodedata.name(sign, "").startswith(("LATIN", "MODIFIER LETTER")):
            raise UnusableError(
                "text-unpronounceable",
                f"the text {text!r} has {sign!r} in {word!r}, which {language!r} isn't written in; expected words in "
                "Latin letters",
            )


def _number_words(digits: str, language: str, text: str) -> list[str]:
    from num2words import CONVERTER_CLASSES, num2words

    stem, _, region = language.partition("-")
    names = (f"{stem}_{region.upper()}", _NUMBER_LANGUAGES.get(stem, stem))
    name = next((name for name in names if name in CONVERTER_CLASSES), None)
    if name is None or len(digits) > _LARGEST_DIGITS or (len(digits) > 1 and int(digits[0]) == 0):
        raise _unpronounceable(digits, text)
    spoken = unicodedata.normalize("NFKC", num2words(int(digits), lang=name).lower())
    return [word for piece in _pieces(spoken) if _is_word_sign(piece[0]) for word in piece.split("-")]


def _unpronounceable(found: str, text: str) -> UnusableError:
    return UnusableError(
        "text-unpronounceable", f"the text {text!r} has {found!r}, which has no one reading; write it as it is spoken"
    )
