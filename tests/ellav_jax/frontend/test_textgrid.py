"""Alignments in TextGrids → phone intervals: real alignments there and back, and every fault."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.durations import frame_durations
from ellav_jax.frontend.frontend import TEXTGRID, Frontend, default_frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.inventory import VOWELS
from ellav_jax.frontend.textgrid import textgrid_intervals
from tests.ellav_jax.frontend.conftest import Clip
from tests.textgrid_writer import Part, long_textgrid, short_textgrid

CLIPS = ["conf-full", "hello-world", "vm-goodbye"]
IPA_DICTIONARY = "bé\tb ˈe\nban\tb \u00e3\ntä\ttʰ ɛː\n"


@pytest.fixture
def ipa(tmp_path: Path) -> Frontend:
    path = tmp_path / "ipa.dict"
    path.write_text(IPA_DICTIONARY, encoding="utf-8")
    return default_frontend(path, aligner=TEXTGRID, language="fr-fr")


def written(folder: Path, parts: list[Part], length: float, name: str = "phones", write=long_textgrid) -> Path:
    path = folder / "one.TextGrid"
    path.write_text(write({name: parts}, length), encoding="utf-8")
    return path


@pytest.mark.parametrize("write", [long_textgrid, short_textgrid])
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("stress", [False, True])
def test_an_alignment_that_was_written_is_read_back(
    aligner: Aligner, clip: Clip, frontend: Frontend, tmp_path: Path, write, name: str, stress: bool
) -> None:
    waveform, rate, text = clip(name)
    length = len(waveform) / rate
    intervals = aligner.align(waveform, rate, text)
    # As MFA cleans up: silences are blank. Times have 6 digits, as MFA writes them.
    parts = [
        ("" if item.phone == "SIL" else item.phone, round(item.start_s, 6), round(item.end_s, 6)) for item in intervals
    ]
    if stress:
        parts = [(f"{phone}1" if phone in VOWELS else phone, start, end) for phone, start, end in parts]
    found = textgrid_intervals(written(tmp_path, parts, round(length, 6), write=write), length, frontend)
    assert [item.phone for item in found] == [item.phone for item in intervals]
    assert np.allclose([item[1:] for item in found], [item[1:] for item in intervals], atol=1e-6)
    assert (found[0].start_s, found[-1].end_s) == (0, length)
    num_frames = int(np.ceil(length * 75))
    for one, other in zip(
        frame_durations(found, num_frames, frontend), frame_durations(intervals, num_frames, frontend), strict=True
    ):
        assert np.array_equal(one, other)


def test_silences_gaps_and_edges_are_sil(frontend: Frontend, tmp_path: Path) -> None:
    parts = [("sil", 0, 0.1), ("AA0", 0.2, 0.3), ("sp", 0.3, 0.4), ("S", 0.4, 0.5), ("T", 0.7, 0.8), ("", 0.8, 0.9)]
    found = textgrid_intervals(written(tmp_path, parts, 1.0), 1.0, frontend)
    expected = ["SIL", "SIL", "AA", "SIL", "S", "SIL", "T", "SIL", "SIL"]
    assert [item.phone for item in found] == expected
    assert found[4] == PhoneInterval("S", 0.4, 0.5)
    assert (found[0].start_s, found[-1].end_s) == (0, 1.0)
    for before, after in itertools.pairwise(found):
        assert before.end_s == after.start_s


@pytest.mark.parametrize(("end", "length"), [(0.98, 1.0), (1.02, 1.0), (1.0, 1.0)])
def test_a_small_difference_in_length_moves_the_last_boundary(
    frontend: Frontend, tmp_path: Path, end: float, length: float
) -> None:
    found = textgrid_intervals(written(tmp_path, [("AA", 0, 0.5), ("S", 0.5, end)], end), length, frontend)
    assert found == [PhoneInterval("AA", 0, 0.5), PhoneInterval("S", 0.5, length)]


def test_ipa_is_one_phone_however_it_is_written(ipa: Frontend, tmp_path: Path) -> None:
    assert ipa.phones == ("SIL", "b", "e", "tʰ", "\u00e3", "ɛː")
    parts = [("b", 0, 0.1), ("ˈe", 0.1, 0.2), ("ˌa\u0303", 0.2, 0.3), ("tʰ", 0.3, 0.4)]
    found = textgrid_intervals(written(tmp_path, parts, 0.4, "marie - phones"), 0.4, ipa)
    assert [item.phone for item in found] == ["b", "e", "\u00e3", "tʰ"]
    with pytest.raises(UnusableError) as error:
        textgrid_intervals(written(tmp_path, [("b1", 0, 0.4)], 0.4), 0.4, ipa)
    assert error.value.fault == "phone-unknown"


@pytest.mark.parametrize(
    ("parts", "length", "fault", "message"),
    [
        ([("AA", 0, 0.5), ("S", 0.4, 1.0)], 1.0, "textgrid-overlap", "'S' lasts from 0.4 to 1 s"),
        ([("AA", 0.5, 0.2), ("S", 0.5, 1.0)], 1.0, "textgrid-overlap", "'AA' lasts from 0.5 to 0.2 s"),
        ([("S", 0.5, 1.0), ("AA", 0, 0.5)], 1.0, "textgrid-overlap", "'AA' lasts from 0 to 0.5 s"),
        ([("AA", 0, 1.0)], 1.05, "textgrid-length", "lasts from 0 to 1 s, the recording 1.050 s"),
        ([("AA", 0, 1.0)], 0.9, "textgrid-length", "lasts from 0 to 1 s, the recording 0.900 s"),
        ([("AA", 0, 1.0), ("S", 1.0, 1.02)], 1.0, "textgrid-length", "'S' lasts from 1 to 1.02 s"),
        ([("AA", 0, 1.0), ("S", 1.0, 2.0)], 1.0, "textgrid-length", "'S' lasts from 1 to 2 s"),
        ([("ə", 0, 1.0)], 1.0, "phone-unknown", "the phone 'ə' at 0 s is none of the frontend's 40 phones"),
        ([("AA", 0, 0.5), ("spn", 0.5, 1.0)], 1.0, "phone-unknown", "the word 'digium' at 0.5 s is unknown to MFA"),
        ([("", 0, 0.5), ("sil", 0.5, 1.0)], 1.0, "text-empty", "nothing but silence"),
        ([], 1.0, "text-empty", "nothing but silence"),
    ],
)
def test_a_fault_has_its_name_and_place(
    frontend: Frontend, tmp_path: Path, parts: list[Part], length: float, fault: str, message: str
) -> None:
    path = tmp_path / "one.TextGrid"
    tiers = {"words": [("hello", 0, 0.5), ("digium", 0.5, 1.0)], "phones": parts}
    path.write_text(long_textgrid(tiers, 1.02 if "1.02" in message else 1.0), encoding="utf-8")
    with pytest.raises(UnusableError) as error:
        textgrid_intervals(path, length, frontend)
    assert error.value.fault == fault
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("names", [["words"], ["anna - phones", "bert - phones"], []])
def test_one_tier_of_phones_is_expected(frontend: Frontend, tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_text(long_textgrid({name: [("AA", 0, 1.0)] for name in names}, 1.0))
    with pytest.raises(UnusableError, match="expected one tier of phones") as error:
        textgrid_intervals(path, 1.0, frontend)
    assert error.value.fault == "textgrid-malformed"


@pytest.mark.parametrize("name", ["phones", "Phone", "phonemes", "speaker-1 - phones", "segments"])
def test_the_tier_of_phones_has_several_names(frontend: Frontend, tmp_path: Path, name: str) -> None:
    assert len(textgrid_intervals(written(tmp_path, [("AA", 0, 1.0)], 1.0, name), 1.0, frontend)) == 1
