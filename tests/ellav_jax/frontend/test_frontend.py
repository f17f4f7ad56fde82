"""frontend.json: round trip, checks at the door, malformed files."""

import dataclasses
import json
from pathlib import Path

import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.dictionary import bundled_dictionary_path
from ellav_jax.frontend.frontend import TEXTGRID, Frontend, default_frontend


def test_json_round_trip_gives_the_same_frontend(frontend: Frontend, tmp_path: Path) -> None:
    changed = dataclasses.replace(frontend, silence_as_phone=False, silence_min_seconds=0.2, pause_marks=",—")
    for one in (frontend, changed):
        one.to_json(tmp_path / "frontend.json")
        assert Frontend.from_json(tmp_path / "frontend.json") == one


def test_phones_are_those_of_the_dictionary_with_sil_first(frontend: Frontend) -> None:
    lines = bundled_dictionary_path().read_text(encoding="utf-8").splitlines()
    used = {phone for line in lines for phone in line.split()[1:]}
    assert frontend.phones[0] == "SIL"
    assert set(frontend.phones[1:]) == used
    assert len(frontend.phones) == 40


def test_check_same_lists_every_differing_field_with_both_values(frontend: Frontend) -> None:
    frontend.check_same(dataclasses.replace(frontend), "the same data set")
    other = dataclasses.replace(frontend, silence_min_seconds=0.25, aligner=TEXTGRID)
    with pytest.raises(InputError) as error:
        frontend.check_same(other, "/data/other")
    message = str(error.value)
    for part in ("/data/other", "silence_min_seconds is 0.25, expected 0.1", "aligner is 'textgrid'", frontend.aligner):
        assert part in message
    assert "edge_silence_seconds" not in message


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("phones", ["AA", "SIL"], "'SIL' first"),
        ("phones", ["SIL", "AA", "AA"], "no name twice"),
        ("phones", ["SIL", "QQ"], "QQ"),
        ("phones", "SIL AA", "a list of strings"),
        ("stress", "no", "type bool"),
        ("silence_min_seconds", -1, "0 or more"),
        ("silence_min_seconds", "0.1", "a number"),
        ("edge_silence_seconds", float("nan"), "0 or more"),
        ("schema_version", 99, "expected 2"),
        ("dictionary_sha256", "abc", "64 hexadecimal"),
        ("aligner", None, "type str"),
        ("aligner", "mfa 3.1", "textgrid, or for ARPAbet pocketsphinx"),
        ("phone_set", "sampa", "arpabet or ipa"),
        ("g2p_language", "de", "en-us for phones in ARPAbet"),
    ],
)
def test_a_malformed_field_is_named_with_what_was_expected(
    frontend: Frontend, tmp_path: Path, field: str, value: object, expected: str
) -> None:
    path = tmp_path / "frontend.json"
    path.write_text(json.dumps({**dataclasses.asdict(frontend), field: value}))
    with pytest.raises(InputError) as error:
        Frontend.from_json(path)
    for part in (str(path), field, expected):
        assert part in str(error.value)


def test_missing_and_unknown_fields_are_named(frontend: Frontend, tmp_path: Path) -> None:
    path = tmp_path / "frontend.json"
    content = dataclasses.asdict(frontend)
    path.write_text(json.dumps({name: value for name, value in content.items() if name != "aligner"}))
    with pytest.raises(InputError, match="'aligner': found missing"):
        Frontend.from_json(path)
    path.write_text(json.dumps({**content, "tempo": 1}))
    with pytest.raises(InputError, match="'tempo': found an unknown field"):
        Frontend.from_json(path)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", "3"])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "frontend.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"frontend\.json"):
        Frontend.from_json(path)


def test_stress_needs_a_dictionary_with_stress(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without stress"):
        default_frontend(stress=True)
    path = tmp_path / "english.dict"
    path.write_text("hello\tHH AH0 L OW1\n")
    assert "OW1" in default_frontend(path, stress=True).phones


GERMAN = "über\tˈyː b ɜ\nhallo\th ˈa l oː\n[noise]\tspn\n"


def test_an_ipa_dictionary_gives_its_own_phones(tmp_path: Path) -> None:
    path = tmp_path / "german.dict"
    path.write_text(GERMAN, encoding="utf-8")
    plain = default_frontend(path, aligner=TEXTGRID, language="de")
    assert plain.phones == ("SIL", "a", "b", "h", "l", "oː", "yː", "ɜ")
    assert (plain.phone_set, plain.g2p_language, plain.aligner) == ("ipa", "de", "textgrid")
    assert plain.normalizer.startswith("ellav-basic ")
    stressed = default_frontend(path, stress=True, aligner=TEXTGRID, language="de")
    assert stressed.phones == ("SIL", "b", "h", "l", "oː", "ɜ", "ˈa", "ˈyː")
    for one in (plain, stressed):
        one.to_json(tmp_path / "frontend.json")
        assert Frontend.from_json(tmp_path / "frontend.json") == one


def test_the_aligner_field_names_what_decides_about_recordings(frontend: Frontend) -> None:
    for part in ("pocketsphinx ", "beams 1e-80 1e-80 1e-60", "lowest scores -40 -30"):
        assert part in frontend.aligner


@pytest.mark.parametrize(
    ("phones", "message"),
    [
        (["SIL", "yː", "ˈyː"], "without stress marks"),
        (["SIL", "a b"], "without spaces"),
        (["SIL", ""], "without spaces"),
    ],
)
def test_malformed_ipa_phones_are_named(tmp_path: Path, phones: list[str], message: str) -> None:
    path = tmp_path / "german.dict"
    path.write_text(GERMAN, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        dataclasses.replace(default_frontend(path, aligner=TEXTGRID, language="de"), phones=tuple(phones))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, {"language": "de"}, r"--write-mfa DIR --language de` write one"),
        (None, {"language": "fr"}, "of that language there are fr-be, fr-ch, fr-fr"),
        (None, {"language": "klingon"}, "expected a voice of espeak-ng"),
        (None, {"aligner": "mfa"}, "expected pocketsphinx or textgrid"),
        (GERMAN, {"language": "de"}, "pocketsphinx aligns American English in ARPAbet only"),
        ("hello HH EH1 L OW0\n", {"language": "de", "aligner": TEXTGRID}, "expected one in IPA for 'de'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, content: str | None, options: dict[str, str], message: str
) -> None:
    path = None
    if content is not None:
        path = tmp_path / "own.dict"
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        default_frontend(path, **options)
