"""flite:N with the real program (tests/install_programs.sh); what is refused, without it."""

import itertools
import pickle
import shutil

import numpy as np
import pytest

from data_pipelines.corpora import audio_from_json, open_corpus
from data_pipelines.corpora.flite import VOICES, FliteAudio
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError, UnusableError
from ellav_jax.frontend.frontend import default_frontend
from launch import cli

SENTENCE = "Seven tired sailors painted the bridge."
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="no flite: tests/install_programs.sh")


@pytest.fixture
def failing_flite(tmp_path, monkeypatch):
    """A program of that name which says why it fails."""
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\necho 'no such voice' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@needs_flite
@pytest.mark.parametrize("voice", VOICES)
def test_a_voice_says_the_same_each_time_and_not_what_another_says(voice):
    wave_S, rate = FliteAudio(SENTENCE, voice).read()
    assert 1.5 * rate < len(wave_S) < 5 * rate
    assert wave_S.dtype == np.float32
    assert 0.02 < np.sqrt(np.mean(wave_S**2)) < 0.5
    again_S, _ = FliteAudio(SENTENCE, voice).read()
    assert np.array_equal(wave_S, again_S)
    for other in set(VOICES) - {voice}:
        assert not np.array_equal(wave_S, FliteAudio(SENTENCE, other).read()[0])


@needs_flite
def test_speech_longer_than_the_limit_is_set_aside():
    with pytest.raises(UnusableError) as caught:
        FliteAudio(SENTENCE, "rms").read(max_seconds=1.0)
    assert caught.value.fault == "audio-too-long"


@needs_flite
def test_a_text_that_looks_like_an_option_is_spoken():
    wave_S, rate = FliteAudio("-o and so on", "slt").read()
    assert len(wave_S) > 0.5 * rate


@needs_flite
def test_a_larger_corpus_begins_with_a_smaller_one_and_holds_out_other_sentences():
    small, large = list(open_corpus("flite:6").utterances), list(open_corpus("flite:100").utterances)
    assert [one.split for one in small] == ["train"] * 6 + ["test"] * 60
    assert large[:6] == small[:6]
    assert large[100:] == small[6:]
    assert [one.speaker for one in small[:6]] == [*VOICES, *VOICES]
    assert len({one.id for one in large}) == 160
    assert not {one.text for one in large[:100]} & {one.text for one in small[6:]}


@needs_flite
def test_audio_comes_back_from_json_and_from_pickle_and_its_stamp_tells_text_voice_and_version():
    audio = FliteAudio(SENTENCE, "awb")
    assert audio_from_json(audio.to_json()) == audio
    assert pickle.loads(pickle.dumps(audio)) == audio
    stamps = [FliteAudio(text, voice).stamp() for text in ("a", "b") for voice in VOICES]
    assert all(one != other for one, other in itertools.combinations(stamps, 2))
    assert "flite-" in audio.stamp()[0]


@needs_flite
def test_it_is_spoken_aligned_and_encoded_by_prepare(tmp_path, codec_facts):
    summary = prepare(
        open_corpus("flite:3"),
        tmp_path / "data",
        codec_facts,
        default_frontend(),
        PrepareConfig(shards=1, limit=3, group_size=3),
        LocalEngine(2),
    )
    assert (summary.found, summary.written) == (6, 6)
    dataset = Dataset.open(tmp_path / "data")
    assert dataset.info["corpus"]["name"] == "flite"
    for one, record in zip(open_corpus("flite:3").utterances, dataset.records("train"), strict=False):
        assert (record.id, record.text, record.speaker) == (one.id, one.text, one.speaker)
        assert record.durations_N.sum() == len(record.codes_Tx8)
        wave_S, rate = one.audio.read()
        assert record.num_frames / 75 == pytest.approx(len(wave_S) / rate, abs=0.6)  # trimmed at both edges


@pytest.mark.parametrize("count", ["", "0", "-3", "2.5", "many", "1000001", "٣"])
def test_what_is_no_number_of_sentences_is_refused(count):
    with pytest.raises(InputError, match=f"flite:{count}: expected flite:N"):
        open_corpus(f"flite:{count}")


def test_without_the_program_the_corpus_is_refused_with_the_way_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["prepare", "flite:3", str(tmp_path / "out")]) == 2
    assert "flite, which is not on the PATH; on Debian: apt install flite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_the_program_says_when_it_fails_is_passed_on(failing_flite):
    with pytest.raises(InputError, match="flite -voice rms ended with status 3: no such voice"):
        FliteAudio(SENTENCE, "rms").read()
