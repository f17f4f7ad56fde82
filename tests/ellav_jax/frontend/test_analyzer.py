"""Text → words → phones."""

import dataclasses
from pathlib import Path

import pytest

from ellav_jax.errors import InputError, UnusableError
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.frontend import TEXTGRID, Frontend, default_frontend


def test_words_carry_dictionary_phones_alternates_and_pauses(analyzer: TextAnalyzer) -> None:
    words = analyzer.words("Hello, read it.")
    assert [word.text for word in words] == ["hello", "read", "it"]
    assert [word.pause_after for word in words] == [True, False, True]
    assert words[0].phones == ("HH", "AH", "L", "OW")
    assert words[1].pronunciations == (("R", "EH", "D"), ("R", "IY", "D"))


def test_sil_stands_at_both_edges_and_at_punctuation(analyzer: TextAnalyzer) -> None:
    expected = "SIL P R EH S W AH N SIL N AW SIL".split()  # noqa: SIM905 (reads as phones)
    assert analyzer.phones("Press 1, now") == expected
    assert analyzer.phones("...press 1; NOW!") == expected


def test_silence_that_is_no_phone_is_not_spoken(analyzer: TextAnalyzer, frontend: Frontend) -> None:
    silent = TextAnalyzer(dataclasses.replace(frontend, silence_as_phone=False))
    text = "Press 1, now."
    assert silent.phones(text) == [phone for phone in analyzer.phones(text) if phone != "SIL"]


def test_pin_is_a_word_and_pbx_three_letters(analyzer: TextAnalyzer) -> None:
    assert analyzer.phones("PIN") == ["SIL", "P", "IH", "N", "SIL"]
    assert analyzer.phones("PBX") == ["SIL", "P", "IY", "B", "IY", "EH", "K", "S", "SIL"]
    assert analyzer.phones("g") == ["SIL", "JH", "IY", "SIL"]
    assert analyzer.phones("a") == ["SIL", "EY", "SIL"]
    assert analyzer.phones("a pin") == ["SIL", "AH", "P", "IH", "N", "SIL"]


def test_words_out_of_the_dictionary_are_pronounced_in_the_same_inventory(analyzer: TextAnalyzer) -> None:
    (word,) = analyzer.words("Digium")
    assert not word.in_dictionary
    assert word.phones == ("D", "IH", "JH", "AH", "M")
    assert analyzer.words("PBXs")[-1].phones == ("EH", "K", "S", "IH", "Z")
    assert set(analyzer.phones("a naïve café in Zürich, unmuted")) <= set(analyzer.frontend.phones)


def test_text_of_digits_alone_is_spoken(analyzer: TextAnalyzer) -> None:
    assert analyzer.phones("42") == analyzer.phones("forty two")


@pytest.mark.parametrize("text", ["", "🎉", "..."])
def test_text_without_words_is_refused(analyzer: TextAnalyzer, text: str) -> None:
    with pytest.raises(UnusableError, match="no words") as error:
        analyzer.phones(text)
    assert error.value.fault == "text-empty"


def test_text_in_another_script_is_refused(analyzer: TextAnalyzer) -> None:
    with pytest.raises(UnusableError, match="Latin letters") as error:
        analyzer.phones("Добрый day")
    assert error.value.fault == "text-unpronounceable"


def test_another_dictionary_than_the_frontends_is_refused(frontend: Frontend, tmp_path: Path) -> None:
    path = tmp_path / "own.dict"
    path.write_text("hello HH EH1 L OW0\n")
    with pytest.raises(InputError, match="SHA-256"):
        TextAnalyzer(frontend, path)
    with pytest.raises(InputError, match="no such dictionary"):
        TextAnalyzer(frontend, tmp_path / "none.dict")
    own = default_frontend(path)
    with pytest.raises(InputError, match=r"own\.dict"):
        TextAnalyzer(own)
    assert TextAnalyzer(own, path).phones("hello") == ["SIL", "HH", "EH", "L", "OW", "SIL"]


def test_stress_marks_all_vowels(tmp_path: Path) -> None:
    path = tmp_path / "stress.dict"
    path.write_text("hello HH EH1 L OW0\n")
    stressed = TextAnalyzer(default_frontend(path, stress=True), path)
    assert stressed.phones("hello asterisk") == (
        "SIL HH EH1 L OW0 AE1 S T ER0 IH2 S K SIL".split()  # noqa: SIM905 (reads as phones)
    )


def test_phonemizer_writes_nothing_to_stderr(frontend: Frontend, capfd: pytest.CaptureFixture[str]) -> None:
    TextAnalyzer(frontend).phones("Digium café voilà x")
    assert capfd.readouterr() == ("", "")


def test_an_ipa_frontend_speaks_unknown_words_with_the_dictionarys_phones(tmp_path: Path) -> None:
    path = tmp_path / "german.dict"
    path.write_text("guten\tɡ uː t ə n\nmorgen\tm ɔ ɾ ɡ ə n\ne-mail\tiː m eː l\n", encoding="utf-8")
    german = TextAnalyzer(default_frontend(path, aligner=TEXTGRID, language="de"), path)
    assert german.phones("Guten Morgen, gute E-Mail!") == (
        "SIL ɡ uː t ə n m ɔ ɾ ɡ ə n SIL ɡ uː t ə iː m eː l SIL".split()  # noqa: SIM905 (reads as phones)
    )
    assert [word.in_dictionary for word in german.words("guten Morgen, gute")] == [True, True, False]
    with pytest.raises(UnusableError, match=r"the word 'apfel' is not in german.dict.*speaks it with 'a'") as error:
        german.phones("guten Apfel")
    assert error.value.fault == "text-unpronounceable"


def test_an_ipa_frontend_keeps_stress_where_it_is_on(tmp_path: Path) -> None:
    path = tmp_path / "german.dict"
    path.write_text("guten\tɡ ˈuː t ə n\n", encoding="utf-8")
    german = TextAnalyzer(default_frontend(path, stress=True, aligner=TEXTGRID, language="de"), path)
    assert german.phones("gute") == ["SIL", "ɡ", "ˈuː", "t", "ə", "SIL"]


def test_english_in_ipa_has_the_english_rules_for_text(tmp_path: Path) -> None:
    path = tmp_path / "english.dict"
    path.write_text("press\tp ɹ ɛ s\none\tw ʌ n\np\tp iː\n", encoding="utf-8")
    english = TextAnalyzer(default_frontend(path, aligner=TEXTGRID), path)
    assert english.phones("Press 1, P") == "SIL p ɹ ɛ s w ʌ n SIL p iː SIL".split()  # noqa: SIM905 (reads as phones)
