import pytest
import soundfile

from data_pipelines.corpora import open_corpus
from data_pipelines.corpora.bundled import FOLDER


def test_the_bundled_corpus_is_whole():
    corpus = open_corpus("bundled")
    assert len(corpus.utterances) == 542
    assert len({one.id for one in corpus.utterances}) == 542
    assert sum(one.split == "test" for one in corpus.utterances) == 27
    assert {one.split for one in corpus.utterances} == {"train", "test"}
    assert {one.audio.path for one in corpus.utterances} == set((FOLDER / "clips").iterdir())


def test_the_bundled_corpus_lasts_24_minutes_at_16_khz():
    infos = [soundfile.info(one.audio.path) for one in open_corpus("bundled").utterances]
    assert {(info.samplerate, info.channels) for info in infos} == {(16000, 1)}
    assert sum(info.frames for info in infos) / 16000 / 60 == pytest.approx(24.04, abs=0.01)


def test_texts_come_from_the_transcript():
    texts = {one.id: one.text for one in open_corpus("bundled").utterances}
    assert texts["vm-mailboxfull"] == "sorry but the user's mail box can't accept more messages"
    assert texts["added"] == "Added."


def test_the_attribution_travels_with_the_clips():
    corpus = open_corpus("bundled")
    notice = (FOLDER / "README.md").read_text()
    for words in ("Allison Smith", "Digium", "CC BY-SA 3.0", "asterisk-core-sounds-en-g722"):
        assert words in notice
        assert words in corpus.attribution + corpus.licence
