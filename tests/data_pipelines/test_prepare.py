import collections
import dataclasses
import json
import multiprocessing
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.records import Dataset, Record
from data_pipelines.work_folder import WorkFolder
from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.resampling import resample

FRONTEND = default_frontend()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _part(corpus: Corpus, count: int) -> Corpus:
    return dataclasses.replace(corpus, utterances=corpus.utterances[:count])


CONFIG = PrepareConfig(shards=2, group_size=8)
"""As the data set of `prepared_bundled`: 25 clips in groups of 8, so that there are several to interrupt."""


@pytest.fixture(scope="module")
def decoded(prepared_bundled, bundled_codec) -> list[tuple[Record, np.ndarray]]:
    """Every record of the data set, and the waveform that the codec makes of its codes."""
    dataset = Dataset.open(prepared_bundled)
    sources = [dataset.records(split) for split in dataset.splits]
    records = [source[i] for source in sources for i in range(len(source))]
    waves = bundled_codec.decode_batch([record.codes_Tx8.astype(np.int32) for record in records])
    return list(zip(records, waves, strict=True))


def _best_product(a: np.ndarray, b: np.ndarray) -> float:
    """The greatest inner product of two waveforms over all offsets: what was trimmed off the edges is not looked up."""
    size = 1 << (len(a) + len(b)).bit_length()
    return np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size).conj(), size).max()


def test_codes_decode_to_the_recording_of_their_utterance(decoded, small_corpus):
    recordings = {one.id: resample(*one.audio.read(), 24000) for one in small_corpus.utterances}
    error, energy = 0.0, 0.0
    for record, wave in decoded:
        likeness = {name: _best_product(own, wave) / np.linalg.norm(own) for name, own in recordings.items()}
        assert max(likeness, key=likeness.get) == record.id
        own = recordings[record.id]
        error += np.sum(own**2) + np.sum(wave**2) - 2 * _best_product(own, wave)
        energy += np.sum(own**2)
    # The bundled codec was measured on such clips: 0.053 with 8 codebooks, 0.071 with 4, 0.22 with one.
    assert error / energy < 0.071


def test_vowels_are_louder_than_silences_where_the_durations_put_them(decoded):
    energies = {"silence": [], "vowel": []}
    for record, wave in decoded:
        power_T = (wave.reshape(-1, 320) ** 2).mean(axis=1)
        ends = np.cumsum(record.durations_N)
        for phone, begin, end in zip(record.phones_N, ends - record.durations_N, ends, strict=True):
            name = FRONTEND.phones[phone]
            kind = "silence" if name == "SIL" else "vowel" if name[0] in "AEIOU" else None
            if kind:
                energies[kind].append(10 * np.log10(power_T[begin:end].mean() + 1e-9))
    assert len(energies["vowel"]) > 100
    assert len(energies["silence"]) > 20
    assert np.median(energies["vowel"]) - np.median(energies["silence"]) > 15


def test_interrupted_work_continues_to_the_same_bytes_whatever_the_workers(
    tmp_path, prepared_bundled, small_corpus, codec_facts
):
    arguments = (small_corpus, tmp_path / "out", codec_facts, FRONTEND)

    def interrupt(done, total, quarantined):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(*arguments, CONFIG, LocalEngine(2), progress=interrupt)
    with pytest.raises(InputError, match="not finished; give the same `ellav prepare` command again"):
        Dataset.open(tmp_path / "out")
    with pytest.raises(InputError, match=r"made with other settings \(shards 2 there, 3 now\)"):
        prepare(*arguments, dataclasses.replace(CONFIG, shards=3), LocalEngine(1))
    reports = []
    summary = prepare(*arguments, CONFIG, LocalEngine(1), progress=lambda *report: reports.append(report))
    assert 8 <= summary.continued_from < 25
    assert (reports[0], reports[-1]) == ((summary.continued_from, 25, 0), (25, 25, 0))
    assert (summary.found, summary.written, summary.quarantined) == (25, 25, 0)
    assert _files(tmp_path / "out") == _files(prepared_bundled)


def test_a_finished_data_set_is_left_alone(tmp_path, prepared_bundled, small_corpus, codec_facts):
    out = tmp_path / "out"
    shutil.copytree(prepared_bundled, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare(small_corpus, out, codec_facts, FRONTEND, CONFIG, LocalEngine(1)) is None
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_folder_called_as_the_codec_is_does_not_stand_in_its_place(tmp_path, monkeypatch, small_corpus, codec_facts):
    (tmp_path / "bundled").mkdir()
    monkeypatch.chdir(tmp_path)
    summary = prepare(_part(small_corpus, 2), tmp_path / "out", codec_facts, FRONTEND, CONFIG, LocalEngine(1))
    assert (summary.found, summary.written) == (2, 2)


def test_other_settings_are_named_and_change_nothing(tmp_path, prepared_bundled, small_corpus, codec_facts):
    out = tmp_path / "out"
    shutil.copytree(prepared_bundled, out)
    frontend = dataclasses.replace(FRONTEND, silence_min_seconds=0.2)
    with pytest.raises(InputError, match=r"frontend.silence_min_seconds 0.1 there, 0.2 now"):
        prepare(small_corpus, out, codec_facts, frontend, CONFIG, LocalEngine(1))
    with pytest.raises(InputError, match=r"utterances 25 there, 24 now"):
        prepare(_part(small_corpus, 24), out, codec_facts, FRONTEND, CONFIG, LocalEngine(1))
    assert _files(out) == _files(prepared_bundled)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda out: out.write_text("my thesis"), "exists and is not a folder"),
        (lambda out: (out.mkdir(), (out / "thesis.tex").write_text("…")), "is not empty and is not a data set"),
        (lambda out: out.parent.joinpath("out").write_text("x"), "exists and is not a folder"),
    ],
)
def test_an_out_that_is_something_else_is_refused_and_kept(tmp_path, small_corpus, codec_facts, make, message):
    out = tmp_path / "out"
    make(out)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        prepare(small_corpus, out, codec_facts, FRONTEND, PrepareConfig(), LocalEngine(1))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_out_below_a_file_is_refused(tmp_path, small_corpus, codec_facts):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"can't be made \(Not a directory"):
        prepare(
            small_corpus,
            tmp_path / "file" / "out",
            codec_facts,
            FRONTEND,
            PrepareConfig(),
            LocalEngine(1),
        )


def test_two_processes_never_write_one_data_set(tmp_path, small_corpus, codec_facts):
    config = PrepareConfig()
    other = WorkFolder(tmp_path / "out")
    with pytest.raises(InputError, match="another `ellav prepare` is writing this data set"):
        prepare(small_corpus, tmp_path / "out", codec_facts, FRONTEND, config, LocalEngine(1))
    other.close()


@pytest.mark.parametrize("change", [{"shards": 0}, {"limit": 0}, {"group_size": 0}, {"max_seconds": 0.0}])
def test_settings_without_meaning_are_refused(change):
    with pytest.raises(InputError, match=r"must be at least 1, max_seconds above"):
        PrepareConfig(**change)


def _corpus_of_odd_files(folder: Path, speech: Sequence[Utterance]) -> tuple[Corpus, dict[str, str]]:
    """Good recordings in odd formats, and bad ones with the fault that is expected of each."""
    good = speech[0]
    wave, _ = good.audio.read()
    soundfile.write(folder / "stereo.wav", np.stack([wave, wave], axis=1), 16000)
    soundfile.write(folder / "8_kHz.wav", resample(wave, 16000, 8000), 8000)
    soundfile.write(folder / "48_kHz.flac", resample(wave, 16000, 48000), 48000)
    soundfile.write(folder / "silent.wav", 0 * wave, 16000)
    soundfile.write(folder / "nan.wav", wave + np.nan, 16000, subtype="FLOAT")
    soundfile.write(folder / "20_minutes.flac", np.resize(wave, 1200 * 16000), 16000)
    soundfile.write(folder / "overdriven.wav", np.clip(20 * wave, -1, 1), 16000)
    soundfile.write(folder / "blip.wav", wave[4000:5000], 16000)
    soundfile.write(folder / "whole.flac", wave, 16000)
    (folder / "cut_off.flac").write_bytes((folder / "whole.flac").read_bytes()[:-5000])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "corrupt.opus").write_bytes(good.audio.path.read_bytes()[:50])
    faults = {
        "missing.wav": "audio-missing",
        "silent.wav": "audio-silent",
        "nan.wav": "audio-nan",
        "20_minutes.flac": "audio-too-long",
        "overdriven.wav": "audio-clipped",
        "blip.wav": "audio-too-short",
        "cut_off.flac": "audio-truncated",
        "empty.wav": "audio-unreadable",
        "corrupt.opus": "audio-unreadable",
    }
    names = ["stereo.wav", "8_kHz.wav", "48_kHz.flac", *faults]
    utterances = [Utterance(name, AudioFile(folder / name), good.text, "allison", "train") for name in names]
    for name, text in {"no text": "", "no words": "...!", "emoji": "🎉🎉"}.items():
        utterances.append(Utterance(name, good.audio, text, "allison", "train"))
        faults[name] = "text-empty"
    # Far more words than the recording has room for.
    utterances.append(Utterance("other text", good.audio, speech[-1].text * 20, "allison", "train"))
    faults["other text"] = "text-mismatch"
    fault = Fault("text-encoding", "latin-1.txt: not UTF-8")
    utterances.append(Utterance("latin-1", good.audio, "", "allison", "train", fault))
    faults["latin-1"] = "text-encoding"
    return Corpus("odd files", "CC BY-SA 3.0", "Allison Smith", utterances), faults


def test_what_cant_be_used_is_quarantined_with_its_reason(tmp_path, small_corpus, codec_facts):
    (tmp_path / "files").mkdir()
    corpus, faults = _corpus_of_odd_files(tmp_path / "files", small_corpus.utterances)
    config = PrepareConfig(shards=1, min_seconds=0.1)
    summary = prepare(corpus, tmp_path / "out", codec_facts, FRONTEND, config, LocalEngine(2))
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    quarantine = {line["id"]: line for line in map(json.loads, lines)}
    assert {name: line["reason"] for name, line in quarantine.items()} == faults
    assert quarantine["silent.wav"]["source"] == str(tmp_path / "files" / "silent.wav")
    assert "silent (peak" in quarantine["silent.wav"]["detail"]
    counts = dict(collections.Counter(faults.values()))
    assert (summary.found, summary.written, summary.faults) == (17, 3, counts)
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.info["utterances"] == {"found": 17, "written": 3, "quarantined": 14, "reasons": counts}
    # One recording in three formats: the same phones, and as many frames but for the rounding of the rates.
    records = [dataset.records("train")[i] for i in range(3)]
    assert {record.id for record in records} == {"stereo.wav", "8_kHz.wav", "48_kHz.flac"}
    assert len({record.phones_N.tobytes() for record in records if record.id != "8_kHz.wav"}) == 1


def test_the_second_utterance_of_an_id_is_quarantined(tmp_path, small_corpus, codec_facts):
    first, second = small_corpus.utterances[:2]
    corpus = dataclasses.replace(small_corpus, utterances=[first, dataclasses.replace(second, id=first.id)])
    summary = prepare(corpus, tmp_path / "out", codec_facts, FRONTEND, PrepareConfig(), LocalEngine(1))
    assert (summary.written, summary.faults) == (1, {"duplicate-id": 1})
    (line,) = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines())
    assert (line["id"], line["source"], line["reason"]) == (first.id, second.audio.name, "duplicate-id")
    assert Dataset.open(tmp_path / "out").records(first.split)[0].text == first.text


def test_a_corpus_without_a_usable_utterance_is_refused(tmp_path, codec_facts):
    corpus = Corpus("mine", "", "", [Utterance("a", AudioFile(tmp_path / "a.wav"), "Hello.", "me", "train")])
    with pytest.raises(InputError, match=r"none of the 1 utterances of mine can be used: 1 x audio-missing"):
        prepare(corpus, tmp_path / "out", codec_facts, FRONTEND, PrepareConfig(), LocalEngine(1))


def test_a_corpus_with_nothing_in_it_is_refused_and_leaves_no_trace(tmp_path, small_corpus, codec_facts):
    with pytest.raises(InputError, match=r"no utterances; expected at least one"):
        prepare(
            _part(small_corpus, 0),
            tmp_path / "out",
            codec_facts,
            FRONTEND,
            PrepareConfig(),
            LocalEngine(1),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("full_after", "size"), [(8, 3000), (25, 70_000)], ids=["in a chunk", "in a shard"])
def test_a_full_disk_loses_nothing(tmp_path, prepared_bundled, small_corpus, codec_facts, full_after, size):
    arguments = (small_corpus, tmp_path / "out", codec_facts, FRONTEND, CONFIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done, total, quarantined):
        # From now on no file grows beyond `size` bytes: the kernel fails the write as it does on a full disk.
        if done == full_after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            for worker in multiprocessing.active_children():
                resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, hard))

    try:
        with pytest.raises(OSError, match="File too large") as caught:
            prepare(*arguments, LocalEngine(1), progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path / "out") in str(caught.value)
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert prepare(*arguments, LocalEngine(1)).continued_from >= full_after
    assert _files(tmp_path / "out") == _files(prepared_bundled)


@pytest.mark.slow
def test_an_utterance_whose_worker_is_killed_is_aligned_again(tmp_path, prepared_bundled, small_corpus, codec_facts):
    killed = []

    def kill_a_worker(done, total, quarantined):
        if done == 8:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    arguments = (small_corpus, tmp_path / "out", codec_facts, FRONTEND, CONFIG)
    summary = prepare(*arguments, LocalEngine(2), progress=kill_a_worker)
    assert killed
    assert summary.quarantined == 0
    assert _files(tmp_path / "out") == _files(prepared_bundled)
