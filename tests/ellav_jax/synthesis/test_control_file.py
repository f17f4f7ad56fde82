"""Control files: what they hold, and what is refused of them."""

import json

import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.synthesis.control import Control, Duration, Pause, Pronunciation
from ellav_jax.synthesis.control_file import parse_control, read_control


@pytest.fixture(scope="module")
def frontend():
    return default_frontend()


def test_a_file_of_everything(frontend, tmp_path):
    path = tmp_path / "c.json"
    content = {
        "speed": 1.25,
        "pronunciations": [{"word": "read", "phones": "R eh1 D".upper()}, {"word": 3, "phone": 0, "phones": ["T"]}],
        "pauses": [{"after": "read", "seconds": 0.4}, {"after": 2, "frames": 0}],
        "durations": [
            {"phone": 7, "frames": 12},
            {"phones": [2, 4], "min_frames": 3, "max_seconds": 0.2},
            {"word": "read", "phone": 1, "seconds": 0.16},
            {"every": "AA AO", "min_seconds": 0.1},
        ],
    }
    path.write_text(json.dumps(content))
    found = read_control(path, frontend)
    assert found.speed == 1.25
    where = f"{path}: "
    assert found.pronunciations == (
        Pronunciation("read", ("R", "EH", "D"), None, where + "pronunciations[0]"),
        Pronunciation(3, ("T",), 0, where + "pronunciations[1]"),
    )
    assert found.pauses == (Pause("read", 30, where + "pauses[0]"), Pause(2, 0, where + "pauses[1]"))
    assert found.durations == (
        Duration(12, 12, phones=(7, 7), where=where + "durations[0]"),
        Duration(3, 15, phones=(2, 4), where=where + "durations[1]"),
        Duration(12, 12, word="read", phone=1, where=where + "durations[2]"),
        Duration(8, None, every=("AA", "AO"), where=where + "durations[3]"),
    )


def test_phones_with_a_number_for_each(frontend):
    found = parse_control({"phones": "SIL HH AY", "seconds": [None, 0.08, 0.2]}, frontend)
    assert found == Control(phones=("SIL", "HH", "AY"), floors=(None, 6, 15), caps=(None, 6, 15))
    found = parse_control({"min_frames": [1, None], "max_frames": [None, 4]}, frontend)
    assert (found.floors, found.caps) == ((1, None), (None, 4))


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "found a list, expected an object"),
        ({"duration": []}, "unknown field 'duration'; did you mean 'durations'"),
        ({"durations": {}}, "durations is an object, expected a list"),
        ({"durations": [3]}, r"durations\[0\]: found a number"),
        ({"durations": [{"phone": 1}]}, "says no duration"),
        ({"durations": [{"frames": 3}]}, "nothing says which phones"),
        ({"durations": [{"phone": 1, "every": "AA", "frames": 3}]}, "phone and every says which phones"),
        ({"durations": [{"phone": -1, "frames": 3}]}, "phone is -1"),
        ({"durations": [{"phone": 1.5, "frames": 3}]}, "phone is 1.5"),
        ({"durations": [{"phones": [1], "frames": 3}]}, r"expected \[first, last\]"),
        ({"durations": [{"phone": 1, "frames": 3, "seconds": 0.1}]}, "both frames and seconds"),
        ({"durations": [{"phone": 1, "frames": 3, "max_frames": 4}]}, "exact duration stands beside"),
        (
            {"durations": [{"phone": 1, "min_frames": 5, "max_frames": 4}]},
            "at least 5 and at most 4 frames can't be met",
        ),
        ({"durations": [{"phone": 1, "frames": 0}]}, "0 frames; expected 1 to 4500 frames of 1/75 s"),
        ({"durations": [{"phone": 1, "seconds": 0.005}]}, "0.005 s; expected 1 to"),
        ({"durations": [{"phone": 1, "seconds": 61}]}, "61 s; expected"),
        ({"durations": [{"phone": 1, "frames": 2.5}]}, "expected whole frames"),
        ({"durations": [{"phone": 1, "frames": float("nan")}]}, "expected a number"),
        ({"durations": [{"phone": 1, "frames": True}]}, "is True, expected a number"),
        ({"pauses": [{"after": "x"}]}, "expected seconds or frames"),
        ({"pauses": [{"after": "x", "frames": -1}]}, "-1 frames; expected 0"),
        ({"pauses": [{"frames": 1}]}, "'after' is missing"),
        ({"pronunciations": [{"word": "x", "phones": 3}]}, "expected phones as"),
        ({"pronunciations": [{"word": "", "phones": "AA"}]}, "expected its number, from 0 or its text"),
        ({"speed": 0}, "speed is 0, expected a number from 0.25 to 4"),
        ({"speed": "fast"}, "speed is 'fast'"),
        ({"frames": 3}, "frames is a number, expected a list with one number"),
        ({"frames": [3, "x"]}, r"frames\[1\] is 'x'"),
        ({"min_frames": [3], "max_frames": [2]}, "phone 0: at least 3 and at most 2 frames can't be met"),
        ({"phones": "AA", "pauses": [{"after": 0, "frames": 3}]}, "belong among them"),
    ],
)
def test_bad_files_are_refused_with_the_place_and_what_was_expected(frontend, content, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_control(content, frontend, "c.json")
    assert str(caught.value).startswith("c.json")
    assert "\n" not in str(caught.value)


def test_what_is_no_json_or_not_there_is_refused(frontend, tmp_path):
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_control(tmp_path / "c.json", frontend)
    with pytest.raises(InputError, match="no such control file"):
        read_control(tmp_path / "d.json", frontend)
