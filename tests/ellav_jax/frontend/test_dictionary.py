"""Dictionaries in CMUdict's and MFA's formats."""

from pathlib import Path

import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.dictionary import Dictionary, load_dictionary

MFA_LINES = (
    "read\t0.3\t0.16\t2.1\t0.9\tR EH1 D\n"
    "read\t0.7\t0.16\t2.1\t0.9\tR IY1 D\n"
    "record\tR AH0 K AO1 R D\n"
    "record\tR EH1 K ER0 D\n"
    "Object 0.99 AA1 B JH EH0 K T\n"
    "object 0.99 AH0 B JH EH1 K T\n"
    "the\t1\tDH AH0\n"
    "the\t1\tDH AH1\n"
    "<unk>\tspn\n"
    "[bracketed]\tspn\n"
    "<eps>\tsil\n"
)


def test_cmudict_keeps_its_order_and_alternates(cmudict: Dictionary) -> None:
    assert cmudict.pronunciations("read") == (("R", "EH", "D"), ("R", "IY", "D"))
    assert cmudict.pronunciations("READ") == cmudict.pronunciations("read")
    assert cmudict.pronunciations("a.") == (("EY",),)
    assert cmudict.pronunciations("digium") == ()
    assert "read(2)" not in cmudict


def test_mfa_pronunciations_are_sorted_by_probability_and_lose_their_stress(tmp_path: Path) -> None:
    path = tmp_path / "english_us_arpa.dict"
    path.write_text(MFA_LINES)
    dictionary = load_dictionary(path, stress=False)
    assert dictionary.pronunciations("read") == (("R", "IY", "D"), ("R", "EH", "D"))
    assert dictionary.pronunciations("record") == (("R", "AH", "K", "AO", "R", "D"), ("R", "EH", "K", "ER", "D"))
    assert len(dictionary.pronunciations("object")) == 2
    # Two pronunciations that differ in stress alone are one.
    assert dictionary.pronunciations("the") == (("DH", "AH"),)
    assert "<unk>" not in dictionary
    assert "[bracketed]" not in dictionary
    assert len(dictionary) == 4


def test_stress_is_kept_where_it_is_on(tmp_path: Path) -> None:
    path = tmp_path / "english_us_arpa.dict"
    path.write_text(MFA_LINES)
    dictionary = load_dictionary(path, stress=True)
    assert dictionary.pronunciations("the") == (("DH", "AH0"), ("DH", "AH1"))


@pytest.mark.parametrize(
    ("content", "stress", "message"),
    [
        ("", False, "no words"),
        ("hello\n", False, "line 1: found 'hello' without phones"),
        ("hi\tHH AY1\nhello\tHH ə l oʊ\n", False, "line 2: found phone 'ə'"),
        ("[noise]\tspn\nhello\th ə l oʊ\nhi\tHH AY1\n", False, "line 3: found the ARPAbet phone 'HH' among IPA"),
        ("hello\th ə l ˈ oʊ\n", False, "line 1: found the stress mark 'ˈ' alone"),
        ("hello\th ə l oʊ\n", True, "no phone with a stress mark"),
        ("hi\tHH AY\n", True, "line 1: found vowel 'AY' without stress"),
    ],
)
def test_a_malformed_dictionary_is_refused_with_its_line(
    tmp_path: Path, content: str, stress: bool, message: str
) -> None:
    path = tmp_path / "bad.dict"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_dictionary(path, stress)


def test_a_missing_or_binary_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such dictionary"):
        load_dictionary(tmp_path / "none.dict", stress=False)
    (tmp_path / "binary.dict").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_dictionary(tmp_path / "binary.dict", stress=False)


def test_ipa_is_read_with_probabilities_tones_and_words_of_any_script(tmp_path: Path) -> None:
    path = tmp_path / "mixed.dict"
    path.write_text(
        "\ufeffÜber\t0.2\t0.1\t1.0\t1.0\tyː b ɐ\n"
        "u\u0308ber\t0.9\tˈyː b ɜ\n"  # the same word, its letter written as two signs
        "l’homme l ˈɔ m\n"
        "नमस्ते\tn ə m ʌ s t eː\n"
        "ba2\t1.0\tb a2 -\n",
        encoding="utf-8",
    )
    dictionary = load_dictionary(path, stress=False)
    assert dictionary.phone_set == "ipa"
    assert dictionary.pronunciations("über") == (("yː", "b", "ɜ"), ("yː", "b", "ɐ"))
    assert dictionary.pronunciations("l'homme") == (("l", "ɔ", "m"),)
    assert "नमस्ते" in dictionary
    assert dictionary.pronunciations("ba2") == (("b", "a2", "-"),)
    assert dictionary.phones() == ("-", "a2", "b", "eː", "l", "m", "n", "s", "t", "yː", "ɐ", "ɔ", "ə", "ɜ", "ʌ")
    assert "ˈyː" in load_dictionary(path, stress=True).phones()


def test_a_folder_in_place_of_a_dictionary_is_refused(tmp_path):
    with pytest.raises(InputError, match="the dictionary can't be read"):
        load_dictionary(tmp_path, stress=False)
