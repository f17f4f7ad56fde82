"""Long text → sentences, each short enough to be spoken in one go.

Rules of its own: pysbd 0.3.4, the usual package, had its last release in 2021 and knows another list of abbreviations
than the normaliser, which reads what is split here.
"""

import re
from collections.abc import Callable

from ellav_jax.frontend.abbreviations import ABBREVIATIONS, BEFORE_NUMBERS, STREET_OR_SAINT
from ellav_jax.frontend.spoken_words import is_english

_END = re.compile(r"""(?:[.!?…]+["'”’)\]]*(?=\s)|[。！？]["'”’」』）]*)""")
_LAST_WORD = re.compile(r"""[^\s"'“‘(\[]+$""")
_OFTEN_LAST = {"etc", "Inc", "Co", "Corp", "Ltd", "Bros", "Jr", "Sr", "Ave", "Blvd", "Rd", "St", "Dr", "Ph.D"}
"""Abbreviations at which a sentence may well end; at others, such as "Mr", it doesn't."""
_OFTEN_FIRST = {"A", "After", "An", "And", "As", "At", "But", "For", "He", "I", "If", "In", "It", "No", "On", "She", "So",
                "That", "The", "Then", "There", "They", "This", "We", "What", "When", "Yes", "You"}  # fmt: skip
"""Words that begin a sentence rather than being part of a name."""


def split_sentences(text: str, language: str) -> list[str]:
    """Sentences of a text in a language (a voice of espeak-ng), in order; blank lines end a sentence too.

    Full stops of English abbreviations and initials end none, unless the next word looks like the first of a sentence.
    What has neither letters nor digits ("* * *") is left out.
    """
    sentences = []
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = " ".join(paragraph.split())
        begin = 0
        for mark in _END.finditer(paragraph):
            rest = paragraph[mark.end() :].lstrip()
            if rest and _ends(paragraph[begin : mark.start()], mark[0], rest, is_english(language)):
                sentences.append(paragraph[begin : mark.end()])
                begin = mark.end()
        sentences.append(paragraph[begin:])
    return [sentence.strip() for sentence in sentences if any(letter.isalnum() for letter in sentence)]


def fitting_parts(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """The sentence, cut in two where it doesn't fit, and so on: at the punctuation nearest its middle, or at a space."""
    if fits(sentence):
        return [sentence]
    middle = len(sentence) / 2
    for pattern in (r"[;:—]\s+|,\s+|\s[-–]\s", r"\s+"):
        ends = [found.end() for found in re.finditer(pattern, sentence)]
        ends = [end for end in ends if _has_words(sentence[:end]) and _has_words(sentence[end:])]
        if ends:
            end = min(ends, key=lambda place: abs(place - middle))
            return [part for half in (sentence[:end], sentence[end:]) for part in fitting_parts(half.strip(), fits)]
    return [sentence]


def _ends(before: str, mark: str, rest: str, english: bool) -> bool:
    """Whether a sentence ends between `before` with its mark and `rest`."""
    first = re.match(r"[\"'“‘(\[]*(\S?)", rest)[1]
    if first.islower():
        return False
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    found = _LAST_WORD.search(before)
    word = found[0] if found else ""
    if word.isdecimal() and word == before.strip():
        return False  # "1. First of all"
    if not english:
        return not re.fullmatch(r"[^\W\d_]", word)
    next_word = re.match(r"[\"'“‘(\[]*([\w']*)", rest)[1]
    if word in BEFORE_NUMBERS and first.isdecimal():
        return False
    if word in _OFTEN_LAST or re.fullmatch(r"[A-Za-z](?:\.[A-Za-z])+", word):
        return next_word in _OFTEN_FIRST
    return word not in ABBREVIATIONS | STREET_OR_SAINT and not re.fullmatch(r"[A-HJ-Z]", word)


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
