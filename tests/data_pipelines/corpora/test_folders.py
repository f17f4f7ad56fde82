import os

import numpy as np
import pytest

from data_pipelines.corpora import CorpusOptions, open_corpus
from ellav_jax.errors import InputError


def _listed(root, **options):
    return {one.id: one for one in open_corpus(f"folder:{root}", CorpusOptions(**options)).utterances}


@pytest.fixture
def mfa_corpus(tmp_path, put):
    root = tmp_path / "corpus"
    for index, name in enumerate(["anna/01.wav", "anna/02.FLAC", "ben/deep/01.mp3", "ben/deep/02.ogg", "c.opus"]):
        put(root / name, index)
        put(root / name.split(".")[0], "").rename((root / name).with_suffix(".lab" if index % 2 else ".txt"))
        (root / name).with_suffix(".lab" if index % 2 else ".txt").write_text(f"Text of {index}.\n")
    return root


def test_each_recording_is_listed_with_its_text_and_the_folder_as_its_speaker(mfa_corpus, clips):
    found = _listed(mfa_corpus)
    assert [(one.id, one.text, one.speaker) for one in found.values()] == [
        ("c", "Text of 4.", "corpus"),
        ("anna/01", "Text of 0.", "anna"),
        ("anna/02", "Text of 1.", "anna"),
        ("ben/deep/01", "Text of 2.", "deep"),
        ("ben/deep/02", "Text of 3.", "deep"),
    ]
    assert all(one.fault is None for one in found.values())
    for index, name in enumerate(["anna/01", "anna/02", "ben/deep/01", "ben/deep/02", "c"]):
        wave, rate = found[name].audio.read()
        assert rate == 16000
        assert np.corrcoef(wave, clips[index])[0, 1] > 0.99


def test_a_corpus_can_be_iterated_again_and_gives_the_same(mfa_corpus):
    corpus = open_corpus(f"folder:{mfa_corpus}")
    assert list(corpus.utterances) == list(corpus.utterances)
    assert corpus.licence == "unknown (given by the user)"


def test_what_has_no_other_half_is_yielded_with_its_fault(tmp_path, put):
    put(tmp_path / "s/a.wav", 0)
    put(tmp_path / "s/b.txt", "hello")
    put(tmp_path / "s/c.wav", 1)
    put(tmp_path / "s/c.txt", "hello")
    found = _listed(tmp_path)
    assert {name: one.fault and one.fault.kind for name, one in found.items()} == {
        "s/a": "text-missing",
        "s/b": "audio-missing",
        "s/c": None,
    }
    assert str(tmp_path / "s" / "a.wav") in found["s/a"].fault.detail
    assert found["s/b"].audio.stamp() is None


@pytest.mark.parametrize(
    ("content", "text", "kind"),
    [
        ("Grüße, Welt!\r\n".encode(), "Grüße, Welt!", None),
        (b"\xef\xbb\xbfhello\r\nthere\r\n", "hello there", None),
        (b" a\t b \n\n c ", "a b c", None),
        (b"", "", "text-empty"),
        (b" \r\n\t", "", "text-empty"),
        ("Grüße".encode("latin-1"), "", "text-encoding"),
        ("hello".encode("utf-16"), "", "text-encoding"),
        ("hello".encode("utf-16-le"), "", "text-encoding"),
    ],
)
def test_transcripts_are_utf_8_and_one_line(tmp_path, put, content, text, kind):
    put(tmp_path / "a.wav", 0)
    put(tmp_path / "a.txt", content)
    (one,) = _listed(tmp_path).values()
    assert (one.text, one.fault and one.fault.kind) == (text, kind)
    assert kind is None or str(tmp_path / "a.txt") in one.fault.detail


def test_a_transcript_that_cant_be_read_is_a_missing_one(tmp_path, put):
    put(tmp_path / "me" / "a.wav", 0)
    (tmp_path / "me" / "a.lab").symlink_to(tmp_path / "nowhere.lab")
    assert _listed(tmp_path)["me/a"].fault.kind == "text-missing"


def test_lab_goes_before_txt(tmp_path, put):
    put(tmp_path / "a.wav", 0)
    put(tmp_path / "a.txt", "two")
    put(tmp_path / "a.lab", "one")
    assert [one.text for one in _listed(tmp_path).values()] == ["one"]


def test_two_recordings_of_one_name_are_two_utterances_of_one_id(tmp_path, put):
    put(tmp_path / "a.wav", 0)
    put(tmp_path / "a.flac", 1)
    put(tmp_path / "a.txt", "hello")
    found = list(open_corpus(f"folder:{tmp_path}").utterances)
    assert [(one.id, one.audio.path.name) for one in found] == [("a", "a.flac"), ("a", "a.wav")]


def test_hidden_files_are_left_out(tmp_path, put):
    for name in ("a", "._a", ".cache/b"):
        put(tmp_path / f"{name}.wav", 0)
        put(tmp_path / f"{name}.txt", "hello")
    assert list(_listed(tmp_path)) == ["a"]


def test_links_to_folders_are_followed_but_not_round_in_a_circle(tmp_path, put):
    put(tmp_path / "elsewhere/a.wav", 0)
    put(tmp_path / "elsewhere/a.txt", "hello")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "anna").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "corpus")
    assert list(_listed(tmp_path / "corpus")) == ["anna/a"]


def test_a_name_that_is_not_utf_8_is_a_fault_and_can_be_written(tmp_path, put):
    put(tmp_path / "a.txt", "hello")
    put(tmp_path / "a.wav", 0)
    os.rename(os.fsencode(tmp_path / "a.wav"), os.fsencode(tmp_path) + b"/\xe9.wav")
    by_id = _listed(tmp_path)
    assert set(by_id) == {"a", r"\xe9"}
    assert by_id[r"\xe9"].fault.kind == "audio-unreadable"
    assert "not UTF-8" in by_id[r"\xe9"].fault.detail
    str(by_id[r"\xe9"]).encode()


def test_folders_named_train_and_test_are_the_splits(tmp_path, put):
    for name in ("train/anna/1", "train/2", "test/ben/1", "valid/carl/1"):
        put(tmp_path / "own" / f"{name}.wav", 0)
        put(tmp_path / "own" / f"{name}.txt", "hello")
    found = {name: (one.split, one.speaker) for name, one in _listed(tmp_path / "own").items()}
    assert found == {
        "test/ben/1": ("test", "ben"),
        "train/2": ("train", "own"),
        "train/anna/1": ("train", "anna"),
        "valid/carl/1": ("dev", "carl"),
    }


def test_without_own_splits_the_test_split_follows_from_the_id_alone(tmp_path, put):
    for index in range(200):
        put(tmp_path / f"s/{index:03d}.wav", b"")
    first = {name: one.split for name, one in _listed(tmp_path, test_share=0.2).items()}
    assert 20 <= sum(split == "test" for split in first.values()) <= 60
    for index in range(100):
        (tmp_path / f"s/{index:03d}.wav").unlink()
    again = {name: one.split for name, one in _listed(tmp_path, test_share=0.2).items()}
    assert again == {name: split for name, split in first.items() if name in again}
    assert {one.split for one in _listed(tmp_path, test_share=0).values()} == {"train"}
    # A larger share holds out what a smaller one does, and more.
    more = {name: one.split for name, one in _listed(tmp_path, test_share=0.5).items()}
    assert all(more[name] == "test" for name, split in again.items() if split == "test")


@pytest.mark.parametrize(
    ("make", "message"), [("missing", "no such folder"), ("file", "is no folder"), ("empty", "no rec")]
)
def test_what_is_no_such_corpus_is_refused(tmp_path, put, make, message):
    path = tmp_path / "x"
    if make == "file":
        put(path, "hello")
    elif make == "empty":
        put(path / "README.txt", "hello")
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(f"folder:{path}")
    assert str(path) in str(caught.value)
    assert "expected" in str(caught.value)
