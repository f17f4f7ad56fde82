"""TextAnalyzer: text → words → phones, by a frontend's dictionary, normaliser and grapheme-to-phoneme backend."""

import dataclasses
from pathlib import Path

from ellav_jax.errors import InputError, UnusableError
from ellav_jax.files import sha256_of_file
from ellav_jax.frontend.dictionary import Pronunciation, bundled_dictionary_path, load_dictionary
from ellav_jax.frontend.espeak import EspeakPronouncer
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.inventory import SIL
from ellav_jax.frontend.spoken_word import SpokenWord
from ellav_jax.frontend.spoken_words import spoken_words
from ellav_jax.frontend.word_spans import PhonedText, WordSpan


@dataclasses.dataclass(frozen=True)
class Word:
    """A word as it is spoken."""

    text: str
    """Lower case; a letter name ends with a full stop ("p."), as in CMUdict."""
    pronunciations: tuple[Pronunciation, ...]
    """Phones without SIL; the first is spoken, an aligner may find another."""
    in_dictionary: bool
    """Whether the dictionary has it; else espeak-ng pronounced it."""
    pause_after: bool
    """Whether punctuation asks for SIL after it."""

    @property
    def phones(self) -> Pronunciation:
        """The pronunciation to speak."""
        return self.pronunciations[0]


class TextAnalyzer:
    """Holds the dictionary and espeak-ng (0.5 s to make).

    dictionary: the file when the frontend's dictionary is not pocketsphinx's own. Raises InputError when it is not the
    one (by SHA-256) that the frontend was made with: other phones would come out.
    """

    def __init__(self, frontend: Frontend, dictionary: str | Path | None = None):
        path = Path(dictionary) if dictionary is not None else bundled_dictionary_path()
        if not path.is_file():
            raise InputError(f"{path}: no such dictionary file")
        found = sha256_of_file(path)
        if found != frontend.dictionary_sha256:
            raise InputError(
                f"{path}: the dictionary has SHA-256 {found}, expected {frontend.dictionary_sha256} of "
                f"{frontend.dictionary!r} as in the frontend; pass that file as the dictionary"
            )
        self.frontend = frontend
        self._dictionary = load_dictionary(path, frontend.stress)
        self._espeak = EspeakPronouncer(frontend.g2p_language, frontend.stress, frontend.phone_set)
        self._inventory = frozenset(frontend.phones)

    def words(self, text: str) -> list[Word]:
        """The words of `text`.

        Raises UnusableError: "text-empty" when it has none, "text-unpronounceable" when one cannot be pronounced with
        the frontend's phones.
        """
        language, marks = self.frontend.g2p_language, self.frontend.pause_marks
        return [self._word(spoken) for spoken in spoken_words(text, language, self._dictionary, marks)]

    def phones(self, text: str) -> list[str]:
        """Phones to speak `text` with: SIL at both edges and where punctuation asks for it.

        Without SIL when the frontend's silence is no phone. Raises UnusableError as `words`.
        """
        return list(self.phoned(text).phones)

    def phoned(self, text: str) -> PhonedText:
        """The same, and which of them are which word's."""
        silence = [SIL] if self.frontend.silence_as_phone else []
        phones, spans = [*silence], []
        for word in self.words(text):
            spans.append(WordSpan(word.text, len(phones), len(phones) + len(word.phones)))
            phones.extend(word.phones)
            if word.pause_after:
                phones.extend(silence)
        if silence and phones[-1] != SIL:
            phones.append(SIL)
        return PhonedText(tuple(phones), tuple(spans))

    def _word(self, spoken: SpokenWord) -> Word:
        found = self._dictionary.pronunciations(spoken.text)
        if not found and spoken.is_letter:
            found = self._dictionary.pronunciations(spoken.plain)
        pronunciations = found or (self._pronounce(spoken.plain),)
        return Word(spoken.text, pronunciations, bool(found), spoken.pause_after)

    def _pronounce(self, word: str) -> Pronunciation:
        phones = self._espeak.pronounce(word)
        for phone in phones:
            if phone not in self._inventory:
                raise UnusableError(
                    "text-unpronounceable",
                    f"the word {word!r} is not in {self.frontend.dictionary}, and espeak-ng speaks it with {phone!r}, "
                    "which is none of the frontend's phones; add the word to the dictionary, or spell it with others",
                )
        return phones
