import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.corpora import CorpusOptions, TfdsOptions, audio_from_json, open_corpus
from data_pipelines.corpora.tfds_audio import TfdsAudio
from data_pipelines.corpora.utterance import AudioFile
from ellav_jax.errors import InputError


@pytest.mark.parametrize("spec", ["librispeach", "bundled:x", "bundled:", "folder", "", "s3:x"])
def test_an_unknown_corpus_is_refused_and_the_known_ones_named(spec):
    with pytest.raises(InputError, match="unknown corpus") as caught:
        open_corpus(spec)
    for known in (
        "bundled",
        "librispeech:DIR",
        "ljspeech:DIR",
        "folder:DIR",
        "manifest:FILE.jsonl",
        "tfds:NAME",
        "flite:N",
    ):
        assert known in str(caught.value)


@pytest.mark.parametrize("spec", ["librispeech:", "ljspeech:", "folder:", "manifest:"])
def test_a_corpus_without_a_place_is_refused(spec):
    with pytest.raises(InputError, match=r"no such f.*; expected"):
        open_corpus(spec)


def test_transcripts_are_lower_cased_on_request():
    plain, lower = open_corpus("bundled"), open_corpus("bundled", CorpusOptions(lower_case=True))
    assert [one.text for one in lower.utterances] == [one.text.lower() for one in plain.utterances]
    assert {one.id: one.text for one in lower.utterances}["added"] == "added."


@pytest.mark.parametrize(
    "make",
    [
        lambda: CorpusOptions(test_share=1.0),
        lambda: CorpusOptions(test_share=-0.1),
        lambda: CorpusOptions(test_share=float("nan")),
        lambda: CorpusOptions(tfds=TfdsOptions(sample_rate=0)),
        lambda: CorpusOptions(tfds=TfdsOptions(full_scale=-1.0)),
    ],
)
def test_options_that_make_no_sense_are_refused(make):
    with pytest.raises(InputError, match="expected"):
        make()


@pytest.mark.parametrize(
    "audio",
    [
        AudioFile(Path("/a/b.flac")),
        AudioFile(Path("/a/b.flac"), 1.5),
        AudioFile(Path("/a/b.flac"), 0.0, 2.25),
        TfdsAudio(Path("/a/b/1.0.0"), "train", 7, "speech", 16000, 32768.0),
        TfdsAudio(Path("/a/b/1.0.0"), "train", 7, "speech", None, 1.0),
    ],
)
def test_audio_comes_back_from_json_and_from_pickle(audio):
    assert audio_from_json(audio.to_json()) == audio
    assert pickle.loads(pickle.dumps(audio)) == audio


def test_audio_of_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kind 'tape'; expected file, tfds or flite"):
        audio_from_json({"kind": "tape", "path": "/a"})


def test_opening_corpora_imports_no_heavy_library():
    heavy = ("jax", "torch", "tensorflow", "tensorflow_datasets", "apache_beam")
    code = f"import sys, data_pipelines.corpora; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
