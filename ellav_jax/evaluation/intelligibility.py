"""Word and character error rates, and sentences that were cut off, from what a recogniser understood."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from ellav_jax.evaluation.edit_counts import count_edits
from ellav_jax.evaluation.metric import Column, Heard
from ellav_jax.evaluation.recognizers import Recognizer

CUT_WORDS = 2
"""A sentence that ended by itself counts as cut off when at least so many of its last words are deleted from what was
heard. The paper's rule is unknown; chosen because a single last word is often merely misheard, or joined to another."""


class Intelligibility:
    """What one recogniser understands. Texts are compared behind Whisper's normaliser, of English or of any language."""

    def __init__(self, recognizer: Recognizer, language: str):
        """language: the frontend's, an espeak-ng voice such as "en-us"."""
        self.name = recognizer.name
        self._recognizer = recognizer
        self._normalize = text_normalizer(language)
        part = f"of {recognizer.name}"
        self.columns = (
            Column("WER %", f"word error rate {part}", "word_errors", "words", 100, 2, "lower"),
            Column("S", f"words substituted, % {part}", "word_substitutions", "words", 100, 1, "lower"),
            Column("D", f"words deleted, % {part}", "word_deletions", "words", 100, 1, "lower"),
            Column("I", f"words inserted, % {part}", "word_insertions", "words", 100, 1, "lower"),
            Column("CER %", f"character error rate {part}", "character_errors", "characters", 100, 2, "lower"),
            Column(
                "CUT %",
                f"ended by themselves, at least the last {CUT_WORDS} words deleted, {part}",
                "cut",
                None,
                100,
                1,
                "lower",
            ),
        )

    def measure(self, heard: Heard) -> Mapping[str, Any]:
        """Counts of words and characters, and the text as understood."""
        understood = self._recognizer.transcribe(heard.waveform_S, heard.sample_rate)
        return {"understood": understood} | text_counts(
            self._normalize(heard.text), self._normalize(understood), heard.finished
        )


def text_counts(wanted: str, understood: str, finished: bool) -> dict[str, int]:
    """Edits of words and characters (spaces included) between two normalised texts; `finished`: it ended by itself."""
    words = count_edits(wanted.split(), understood.split())
    characters = count_edits(*(list(" ".join(text.split()).replace(" ", "_")) for text in (wanted, understood)))
    return {
        "words": words.length,
        "word_errors": words.errors,
        "word_substitutions": words.substitutions,
        "word_deletions": words.deletions,
        "word_insertions": words.insertions,
        "characters": characters.length,
        "character_errors": characters.errors,
        "character_substitutions": characters.substitutions,
        "character_deletions": characters.deletions,
        "character_insertions": characters.insertions,
        "cut": int(finished and words.lost_tail >= CUT_WORDS),
    }


@functools.cache
def text_normalizer(language: str) -> Callable[[str], str]:
    """Whisper's text normaliser (package whisper-normalizer): its English rules for English, the basic ones for others."""
    if language.split("-")[0] == "en":
        from whisper_normalizer.english import EnglishTextNormalizer

        normalize = EnglishTextNormalizer()
    else:
        from whisper_normalizer.basic import BasicTextNormalizer

        normalize = BasicTextNormalizer()
    return lambda text: re.sub(r"\s+", " ", normalize(text)).strip()
