"""frontend.json: round trip, checks at the door, malformed files."""

import dataclasses
import json
from pathlib import Path

import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.dictionary import bundled_dictionary_path
from ellav_jax.frontend.frontend import Frontend, default_frontend


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
    other = dataclasses.replace(frontend, silence_min_seconds=0.25, aligner="mfa 3.1")
    with pytest.raises(InputError) as error:
        frontend.check_same(other, "/data/other")
    message = str(error.value)
    for part in ("/data/other", "silence_min_seconds is 0.25, expected 0.1", "aligner is 'mfa 3.1'", frontend.aligner):
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
        ("schema_version", 99, "expected 1"),
        ("dictionary_sha256", "abc", "64 hexadecimal"),
        ("aligner", None, "type str"),
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
