"""Text → spoken words in languages other than English."""

import pytest

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.basic_normalizer import spoken_words
from ellav_jax.frontend.dictionary import Dictionary

NONE = Dictionary({})


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("de", "Guten Morgen, Straße 21!", "guten morgen straße einundzwanzig"),
        ("de", "Geht’s? „Ja“ – die E‐Mail ... ist Süd-deut\u00adsch.", "geht's ja die e mail ist süd deutsch"),
        ("fr-fr", "L'homme a 71 ans; qu’est-ce ?", "l'homme a soixante et onze ans qu'est ce"),
        ("pt-br", "São 16 GATOS", "são dezesseis gatos"),
        ("pt", "São 16 GATOS", "são dezasseis gatos"),
        ("nb", "Vi har 3 øl", "vi har tre øl"),
        ("hi", "नमस्ते दुनिया। <noise> ठीक", "नमस्ते दुनिया ठीक"),
        ("ru", "Привет, мир — 2!", "привет мир два"),
        ("ar", "مرحبا، كيف؟", "مرحبا كيف"),
        ("fa", "می\u200cخواهم [laugh] 🎉", "می\u200cخواهم"),
        ("vi", "Xin cha\u0300o", "xin chào"),
        ("cmn", "你好 中国。", "你好 中国"),
        ("bn", "আমার ২১", "আমার একুশ"),
        ("haw", "ʻOkina Hawaiʻi", "ʻokina hawaiʻi"),
    ],
)
def test_words_are_lower_case_letters_apostrophes_and_numbers(language: str, text: str, words: str) -> None:
    assert " ".join(word.text for word in spoken_words(text, language, NONE, ",.;")) == words


def test_pause_marks_of_all_scripts_are_seen() -> None:
    found = spoken_words("guten Morgen, du … ja", "de", NONE, ",.…")
    assert [word.pause_after for word in found] == [False, True, True, False]
    for text in ("दुनिया। ठीक", "مرحبا، كيف", "你好。中国", "ну, да"):
        assert [word.pause_after for word in spoken_words(text, "ru", NONE, ",.")] == [True, False], text


def test_a_word_with_hyphens_stays_whole_where_the_dictionary_has_it() -> None:
    found = spoken_words("E-Mail-Adresse E-Mail", "de", Dictionary({"e-mail": [("iː",)]}), "")
    assert [word.text for word in found] == ["e", "mail", "adresse", "e-mail"]


@pytest.mark.parametrize(
    ("language", "text", "found"),
    [
        ("de", "um 12:30", "'12:30'"),
        ("de", "3,5 Meter", "'3,5'"),
        ("de", "am 1.4.2020", "'1.4.2020'"),
        ("de", "10–20", "'10—20'"),
        ("de", "50 %", "'%'"),
        ("de", "50€", "'€'"),
        ("de", "2 + 2", r"'\+'"),
        ("de", "50 m²", "'²'"),
        ("es", "el 1º", "'º'"),
        ("de", "007", "'007'"),
        ("de", "1234567890123456", "'1234567890123456'"),
        ("eu", "21 etxe", "'21'"),
        ("de", "sag привет", "'п' in 'привет'"),
    ],
)
def test_what_has_no_one_reading_is_named(language: str, text: str, found: str) -> None:
    with pytest.raises(UnusableError, match=found) as error:
        spoken_words(text, language, NONE, ",")
    assert error.value.fault == "text-unpronounceable"


@pytest.mark.parametrize("text", ["", "  ", "—!", "<noise> 🎉", "[x]"])
def test_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(UnusableError, match="no words") as error:
        spoken_words(text, "de", NONE, ",")
    assert error.value.fault == "text-empty"
