import os
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.corpora import CorpusOptions, TfdsOptions, audio_from_json, open_corpus, tfds
from data_pipelines.corpora.tfds_audio import data_source
from ellav_jax.errors import InputError, UnusableError

ROOT = Path(__file__).parents[3]
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, clips):
    """A folder of data sets that TFDS built in a process of its own, with what it reads from them."""
    folder = tmp_path_factory.mktemp("tfds")
    np.savez(folder / "clips.npz", *clips)
    command = [sys.executable, str(Path(__file__).with_name("build_tfds.py")), str(folder), str(folder / "clips.npz")]
    done = subprocess.run(command, env=QUIET, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def _open(name, folder, **options):
    return open_corpus(f"tfds:{name}", CorpusOptions(tfds=TfdsOptions(data_dir=folder, **options)))


@pytest.mark.parametrize("config", ["flac", "int16", "stereo"])
def test_a_data_set_that_tfds_built_is_read_as_tfds_reads_it(prepared, clips, config):
    corpus = _open(f"spoken/{config}", prepared)
    found = list(corpus.utterances)
    expected = np.load(prepared / "expected.npz")
    names = [f"{config}/train_clean/{i}" for i in range(4)] + [f"{config}/test_clean/{i}" for i in range(2)]
    assert [one.id for one in found] == [str(expected[f"{name}/id"]) for name in names]
    texts = ["Hello.", "Grüße!", "", "Three.", "Four.", "Five."]
    for one, name in zip(found, names, strict=True):
        index = int(one.id.removeprefix("utt-"))
        assert (one.text, one.speaker) == (texts[index], ["anna", "ben"][index % 2])
        assert one.split == ("test" if index >= 4 else "train")
        assert (one.fault and one.fault.kind) == ("text-empty" if index == 2 else None)
        wave, rate = one.audio.read()
        assert rate == 16000
        whole = clips[index] if config == "flac" else expected[f"{name}/speech"]
        mono = whole.reshape(len(whole), -1).mean(axis=1)
        np.testing.assert_allclose(wave, mono / 32768, atol=1e-6)
    assert (corpus.licence, corpus.attribution) == ("CC BY 4.0", "@misc{spoken}")
    assert corpus.name == f"tfds:spoken/{config}/1.10.0"
    assert list(corpus.utterances) == found


def test_audio_travels_as_json_and_by_pickle_and_its_stamp_holds_no_path(prepared, tmp_path):
    shutil.copytree(prepared / "spoken", tmp_path / "spoken")
    here, there = (list(_open("spoken/int16", folder).utterances) for folder in (prepared, tmp_path))
    assert [one.audio.stamp() for one in here] == [one.audio.stamp() for one in there]
    assert len({str(one.audio.stamp()) for one in here}) == len(here)
    for one in here:
        for audio in (audio_from_json(one.audio.to_json()), pickle.loads(pickle.dumps(one.audio))):
            assert audio == one.audio
            np.testing.assert_array_equal(audio.read()[0], one.audio.read()[0])


def test_reading_needs_no_tensorflow(prepared):
    code = f"""
import sys
from pathlib import Path
from data_pipelines.corpora import CorpusOptions, TfdsOptions, open_corpus
for config in ("flac", "int16"):
    corpus = open_corpus(f"tfds:spoken/{{config}}", CorpusOptions(tfds=TfdsOptions(data_dir=Path({str(prepared)!r}))))
    print(sum(len(one.audio.read()[0]) > 0 for one in corpus.utterances))
print([name for name in ("tensorflow", "jax", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], env=QUIET, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:3] == ["6", "6", "[]"], done.stderr


def test_the_listing_reads_no_audio(prepared, monkeypatch):
    asked = []

    def spy(folder, split, features):
        asked.append(features)
        return data_source(folder, split, features)

    monkeypatch.setattr(tfds, "data_source", spy)
    assert len(list(_open("spoken/int16", prepared).utterances)) == 6
    assert set(asked) == {("id", "speaker", "text")}
    example = data_source(prepared / "spoken" / "int16" / "1.10.0", "test_clean", asked[0])[0]
    assert set(example) == {"id", "speaker", "text"}


def test_features_are_named_by_options(prepared, clips):
    options = {"audio": "wave", "text": "said", "speaker": "by", "sample_rate": 16000}
    found = sorted(_open("plain", prepared, **options).utterances, key=lambda one: one.speaker)
    assert [(one.text, one.speaker) for one in found] == [("Hello.", "40"), ("Grüße!", "41"), ("", "42")]
    assert {one.id for one in found} == {"train-00000000", "train-00000001", "train-00000002"}
    for one, clip in zip(found, clips, strict=False):
        np.testing.assert_allclose(one.audio.read()[0], clip / 32768, atol=1e-7)


def test_a_data_set_of_one_split_is_divided_by_the_ids(prepared):
    options = TfdsOptions(data_dir=prepared, audio="wave", text="said", sample_rate=16000)
    splits = [one.split for one in open_corpus("tfds:plain", CorpusOptions(test_share=0.999, tfds=options)).utterances]
    assert splits == ["test", "test", "test"]


def test_splits_are_chosen_by_name(prepared):
    found = list(_open("spoken/flac", prepared, splits=("test_clean",)).utterances)
    assert [(one.split, one.audio.split) for one in found] == [("test", "test_clean")] * 2
    with pytest.raises(InputError, match="there is no split 'dev'; expected train_clean, test_clean"):
        _open("spoken/flac", prepared, splits=("dev",))


def test_the_newest_version_is_read_unless_one_is_named(prepared):
    assert _open("spoken/int16", prepared).name == "tfds:spoken/int16/1.10.0"
    assert _open("spoken/int16/1.9.0", prepared).name == "tfds:spoken/int16/1.9.0"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "spoken",
            {},
            r"several configurations; expected one of tfds:spoken/flac, tfds:spoken/int16, .*tfds:spoken/wide",
        ),
        ("plain", {}, "expected one audio feature .none of by, said, wave is one.; name it with the option tfds.audio"),
        ("plain", {"audio": "wave"}, "feature 'wave' tells no sampling rate; give it with the option tfds.sample-rate"),
        (
            "plain",
            {"audio": "wave", "sample_rate": 16000},
            "none of its features is a transcript by name .by, said, wave.",
        ),
        ("plain", {"audio": "speech"}, "there is no feature 'speech' for audio; expected by, said, wave"),
        ("spoken/flac", {"text": "words"}, "there is no feature 'words' for text"),
        ("spoken/flac", {"speaker": "who"}, "there is no feature 'who' for speaker"),
        ("spoken/flac", {"audio": "text"}, "feature 'text' can't be read as audio"),
    ],
)
def test_what_cannot_be_guessed_is_refused_with_what_there_is(prepared, name, options, message):
    with pytest.raises(InputError, match=message):
        _open(name, prepared, **options)


def test_a_data_set_that_is_not_prepared_is_refused_with_the_command_for_it(tmp_path):
    with pytest.raises(InputError, match=r"no prepared data set there; .*prepare it with: python -c ") as caught:
        _open("vctk", tmp_path)
    assert f"tfds.builder('vctk', data_dir='{tmp_path}', file_format='array_record').download_and_prepare()" in str(
        caught.value
    )
    assert list(tmp_path.iterdir()) == []


def test_tfrecord_is_refused_and_the_command_given_converts_it(prepared, tmp_path):
    shutil.copytree(prepared / "tfrecord", tmp_path / "data")
    options = {"audio": "wave", "text": "said", "sample_rate": 16000}
    with pytest.raises(InputError, match="prepared as tfrecord, expected array_record; convert it with: ") as caught:
        _open("plain", tmp_path / "data", **options)
    command = shlex.split(str(caught.value).split("convert it with: ")[1].removesuffix(" (needs tensorflow)"))
    subprocess.run([sys.executable, *command[1:]], env=QUIET, capture_output=True, timeout=120, check=True)
    assert len(list(_open("plain", tmp_path / "data", **options).utterances)) == 3


def test_integers_beyond_full_scale_are_a_fault_until_it_is_given(prepared, clips):
    (one, *_) = _open("spoken/wide", prepared).utterances
    with pytest.raises(UnusableError, match=r"samples reach \d+, full scale is 32768; .*tfds.full-scale") as caught:
        one.audio.read()
    assert caught.value.fault == "audio-unreadable"
    for one in _open("spoken/wide", prepared, full_scale=2.0**23).utterances:
        np.testing.assert_allclose(one.audio.read()[0], clips[int(one.id[-1])] / 32768, atol=1e-7)


def test_the_limit_of_length_is_kept(prepared):
    for config in ("flac", "int16"):
        (one, *_) = _open(f"spoken/{config}", prepared).utterances
        wave, rate = one.audio.read()
        assert len(one.audio.read(max_seconds=len(wave) / rate)[0]) == len(wave)
        with pytest.raises(UnusableError, match=r"expected at most 0.5 s") as caught:
            one.audio.read(max_seconds=0.5)
        assert caught.value.fault == "audio-too-long"


def test_damaged_and_missing_files_are_faults_of_their_examples(prepared, tmp_path):
    shutil.copytree(prepared / "spoken", tmp_path / "spoken")
    folder = tmp_path / "spoken/int16/1.10.0"
    (folder / "spoken-test_clean.array_record-00000-of-00001").unlink()
    found = list(_open("spoken/int16", tmp_path).utterances)
    assert [one.fault and one.fault.kind for one in found[-2:]] == ["audio-unreadable"] * 2
    assert [one.id for one in found[-2:]] == ["test_clean-00000000", "test_clean-00000001"]
    assert len(found) == 6
    with pytest.raises(UnusableError, match="No such file"):
        found[-1].audio.read()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"type": "old"}'])
def test_a_description_of_features_that_cannot_be_read_is_refused(prepared, tmp_path, content):
    shutil.copytree(prepared / "spoken", tmp_path / "spoken")
    (tmp_path / "spoken/int16/1.10.0/features.json").write_bytes(content)
    with pytest.raises(InputError, match=r"features.json: .*prepare the data set again"):
        _open("spoken/int16", tmp_path)
