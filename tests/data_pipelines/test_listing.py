import dataclasses

import pytest

from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from data_pipelines.listing import Listing, list_corpus
from ellav_jax.errors import InputError


def _corpus(folder, count=10, split="train"):
    folder.mkdir(exist_ok=True)
    utterances = []
    for i in range(count):
        path = folder / f"{i}.wav"
        path.write_bytes(bytes(i))
        utterances.append(Utterance(f"id{i}", AudioFile(path), f"text {i} … 你好\n", "me", split))
    return Corpus("mine", "", "", utterances)


def test_groups_are_consecutive_utterances_read_at_random(tmp_path):
    corpus = _corpus(tmp_path / "audio")
    facts = list_corpus(corpus, tmp_path / "listing", group_size=4)
    listing = Listing(tmp_path / "listing")
    assert [listing[group] for group in (2, 0, 1)] == [
        corpus.utterances[8:],
        corpus.utterances[:4],
        corpus.utterances[4:8],
    ]
    assert (len(listing), list(listing.sizes())) == (3, [4, 4, 2])
    assert (facts.utterances, facts.splits) == (10, ("train",))
    with pytest.raises(IndexError):
        listing[3]


def test_an_utterance_comes_back_with_its_segment_and_fault(tmp_path):
    utterances = [
        Utterance("a", AudioFile(tmp_path / "x.flac", 1.25, 3.5), "one", "s", "dev"),
        Utterance("b", AudioFile(tmp_path / "y.flac"), "", "s", "dev", Fault("text-empty", "y.txt: empty")),
    ]
    list_corpus(Corpus("mine", "", "", utterances), tmp_path / "listing", group_size=1)
    listing = Listing(tmp_path / "listing")
    assert [listing[0], listing[1]] == [[utterances[0]], [utterances[1]]]


def test_the_digest_follows_what_a_data_set_depends_on_and_not_where_it_lies(tmp_path):
    def digest(corpus):
        return list_corpus(corpus, None, group_size=4).sha256

    corpus = _corpus(tmp_path / "audio")
    assert digest(_corpus(tmp_path / "moved")) == digest(corpus)
    first = corpus.utterances[0]
    for change in (
        dataclasses.replace(first, id="other"),
        dataclasses.replace(first, text="other"),
        dataclasses.replace(first, speaker="other"),
        dataclasses.replace(first, split="other"),
        dataclasses.replace(first, audio=corpus.utterances[1].audio),
        dataclasses.replace(first, audio=AudioFile(first.audio.path, 0.5)),
        dataclasses.replace(first, fault=Fault("text-encoding", "not UTF-8")),
    ):
        assert digest(dataclasses.replace(corpus, utterances=[change, *corpus.utterances[1:]])) != digest(corpus)
    assert digest(dataclasses.replace(corpus, utterances=corpus.utterances[::-1])) != digest(corpus)


def test_the_limit_counts_each_split(tmp_path):
    train, test = _corpus(tmp_path / "a", 5), _corpus(tmp_path / "b", 5, "test")
    utterances = [dataclasses.replace(one, id=one.id + one.split) for one in [*train.utterances, *test.utterances]]
    facts = list_corpus(Corpus("mine", "", "", utterances), tmp_path / "listing", group_size=10, limit=2)
    assert [one.id for one in Listing(tmp_path / "listing")[0]] == ["id0train", "id1train", "id0test", "id1test"]
    assert facts.splits == ("train", "test")


def test_the_second_of_two_equal_ids_has_a_fault(tmp_path):
    corpus = _corpus(tmp_path / "audio", 3)
    utterances = [*corpus.utterances, dataclasses.replace(corpus.utterances[1], text="again")]
    list_corpus(dataclasses.replace(corpus, utterances=utterances), tmp_path / "listing", group_size=10)
    faults = [one.fault for one in Listing(tmp_path / "listing")[0]]
    assert faults[:3] == [None, None, None]
    assert faults[3].kind == "duplicate-id"


def test_a_split_that_cant_name_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"split 'a/b' of id0 can't name a file"):
        list_corpus(_corpus(tmp_path / "audio", split="a/b"), tmp_path / "listing", group_size=4)
    assert not (tmp_path / "listing").exists()
