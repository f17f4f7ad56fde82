"""Which TextGrid belongs to which utterance."""

import itertools
import pickle
from pathlib import Path

import pytest

from data_pipelines.corpora.utterance import AudioFile, Utterance
from data_pipelines.textgrid_folder import TextGridFolder, file_stem, folder_name
from ellav_jax.errors import InputError, UnusableError


def utterance(name: str, speaker: str = "anna") -> Utterance:
    return Utterance(name, AudioFile(Path(f"{name}.wav")), "text", speaker, "train")


def touch(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_id_comes_first_then_the_speakers_folder_then_any_folder(tmp_path: Path) -> None:
    anywhere = touch(tmp_path / "dev" / "84" / "121" / "84-121-0000.textgrid")
    folder = TextGridFolder(tmp_path)
    one = utterance("dev-clean/84-121-0000", speaker="84")
    assert folder.path(one) == anywhere
    by_speaker = touch(tmp_path / "84" / "dev-clean__84-121-0000.TextGrid")
    assert folder.path(one) == by_speaker
    by_id = touch(tmp_path / "dev-clean" / "84-121-0000.TextGrid")
    assert folder.path(one) == by_id
    # Workers get it by pickle.
    assert pickle.loads(pickle.dumps(folder)).path(one) == by_id


def test_the_stamp_is_the_size_of_the_file_or_none(tmp_path: Path) -> None:
    path = touch(tmp_path / "one.TextGrid", "12345")
    folder = TextGridFolder(tmp_path)
    assert folder.stamp(utterance("one")) == 5
    path.write_text("123456")
    assert folder.stamp(utterance("one")) == 6
    assert folder.stamp(utterance("two")) is None


def test_a_missing_or_ambiguous_textgrid_is_a_fault_of_the_utterance(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "same.TextGrid")
    touch(tmp_path / "b" / "same.TextGrid")
    folder = TextGridFolder(tmp_path)
    for name, message in (("none", r"anna/none\.TextGrid: no such file"), ("x/same", r"2 TextGrids are named 'same'")):
        with pytest.raises(UnusableError, match=message) as error:
            folder.path(utterance(name))
        assert error.value.fault == "textgrid-missing"
    assert folder.path(utterance("b/same")) == tmp_path / "b" / "same.TextGrid"


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_an_id_does_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "outside.TextGrid")
    touch(tmp_path / "grids" / "one.TextGrid")
    with pytest.raises(UnusableError) as error:
        TextGridFolder(tmp_path / "grids").path(utterance(name))
    assert error.value.fault == "textgrid-missing"


def test_a_folder_without_textgrids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        TextGridFolder(tmp_path / "none")
    touch(tmp_path / "sub" / "one.lab")
    with pytest.raises(InputError, match=r"no \.TextGrid file"):
        TextGridFolder(tmp_path)


def test_file_names_are_plain_and_differ_where_ids_differ() -> None:
    assert file_stem("84-121123-0000") == "84-121123-0000"
    assert file_stem("p225/p225_001") == "p225__p225_001"
    assert file_stem("größe.1") == "größe.1"
    ids = ["a/b", "a__b", "a b", "a?b", "a:b", ".a", "a", "../a", "x" * 200, "x" * 201, "a/_b", "a_/b", "a//b", "नमस्ते"]
    stems = [file_stem(one) for one in ids]
    assert len(set(stems)) == len(ids)
    for stem, forbidden in itertools.product(stems, '/\\ ?:"<>|*'):
        assert forbidden not in stem
    assert max(map(len, stems)) < 200
    assert not any(stem.startswith(".") for stem in stems)
    assert folder_name("") == "unknown"
