"""IPA → ARPAbet, judged against CMUdict's own transcriptions."""

import difflib

import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.dictionary import Dictionary, bundled_dictionary_path
from ellav_jax.frontend.espeak import EspeakPronouncer
from ellav_jax.frontend.ipa import arpabet


@pytest.mark.parametrize(
    ("segments", "phones"),
    [
        ("ˈæ s t ɚ ɹ ˌɪ s k", "AE S T ER IH S K"),
        ("b ˈʌ ʔ n̩", "B AH T AH N"),
        ("b ˈɑː ɾ əl", "B AA T AH L"),
        ("f ˈaɪɚ", "F AY ER"),
        ("k w ˈaɪə t", "K W AY AH T"),
        ("k ˈɔːɹ s", "K AO R S"),
        ("ɐ k j ˈʊɹ ɹ aɪ d", "AH K Y UH R AY D"),
        ("tʃ ˈɔɪ s", "CH OY S"),
        ("ʒ ˈɑ̃ ɹ ə", "ZH AA N R AH"),
        ("θ ˈɪ ŋ k ɪ ŋ", "TH IH NG K IH NG"),
    ],
)
def test_diphthongs_r_colours_syllabics_and_flaps_are_mapped(segments: str, phones: str) -> None:
    assert arpabet(segments.split(), stress=False) == tuple(phones.split())


def test_stress_marks_become_digits_on_vowels_alone() -> None:
    assert arpabet(["ˈæ", "s", "t", "ɚ", "ɹ", "ˌɪ", "s", "k"], stress=True) == ("AE1", "S", "T", "ER0", "IH2", "S", "K")
    assert arpabet(["ˈaɪɚ"], stress=True) == ("AY1", "ER0")


def test_an_unmapped_symbol_is_named() -> None:
    with pytest.raises(InputError, match="ǃ"):
        arpabet(["k", "ǃ"], stress=False)


def test_espeak_agrees_with_cmudict_on_most_phones(cmudict: Dictionary) -> None:
    """Every 200th word of the dictionary can be pronounced, and the mapping loses no more than espeak-ng's own accent
    and errors on names account for."""
    pronouncer = EspeakPronouncer("en-us", stress=False)
    lines = bundled_dictionary_path().read_text(encoding="utf-8").splitlines()
    words = [word for word in (line.split()[0] for line in lines) if word.isalpha()][::200]
    equal = total = 0
    for word in words:
        ours = pronouncer.pronounce(word)
        theirs = max(
            cmudict.pronunciations(word), key=lambda phones: difflib.SequenceMatcher(None, ours, phones).ratio()
        )
        matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
        equal += sum(block.size for block in matcher.get_matching_blocks())
        total += max(len(ours), len(theirs))
    assert len(words) > 500
    assert equal / total > 0.8


def test_a_word_without_pronunciation_and_an_unknown_language_are_refused() -> None:
    with pytest.raises(InputError, match="'xx-none'"):
        EspeakPronouncer("xx-none", stress=False)
    with pytest.raises(InputError, match="no pronunciation"):
        EspeakPronouncer("en-us", stress=False).pronounce("'")
