"""Data sets from alignments that another aligner wrote."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.frontend import default_frontend
from tests.textgrid_writer import long_textgrid, short_textgrid

CONFIG = PrepareConfig(shards=2, group_size=8)


@pytest.fixture(scope="module")
def alignments(small_corpus) -> dict[str, tuple[float, list[tuple[str, float, float]]]]:
    """Length in seconds and phones of each utterance of the small corpus, as pocketsphinx finds them."""
    aligner = Aligner(default_frontend(), TextAnalyzer(default_frontend()))
    found = {}
    for one in small_corpus.utterances:
        wave, rate = one.audio.read()
        intervals = aligner.align(wave, rate, one.text)
        parts = [("sil" if phone == "SIL" else phone, start, end) for phone, start, end in intervals]
        found[one.id] = len(wave) / rate, parts
    return found


@pytest.fixture
def folder(alignments, small_corpus, tmp_path) -> Path:
    """As MFA lays them out: a folder a speaker; every other file in the short format."""
    for number, one in enumerate(small_corpus.utterances):
        length, parts = alignments[one.id]
        path = tmp_path / "aligned" / one.speaker / f"{one.id}.TextGrid"
        path.parent.mkdir(parents=True, exist_ok=True)
        write = short_textgrid if number % 2 else long_textgrid
        path.write_text(write({"words": [("words", 0.0, length)], "phones": parts}, length), encoding="utf-8")
    return tmp_path / "aligned"


def _prepare(corpus, out, codec, folder):
    frontend = default_frontend(aligner="textgrid")
    return prepare(corpus, out, codec, frontend, CONFIG, LocalEngine(2), textgrids=folder)


def test_the_aligners_own_textgrids_give_its_own_records(folder, small_corpus, codec_facts, prepared_bundled, tmp_path):
    assert _prepare(small_corpus, tmp_path / "out", codec_facts, folder).faults == {}
    for split in ("train", "test"):
        ours, theirs = (Dataset.open(path).records(split) for path in (tmp_path / "out", prepared_bundled))
        assert len(ours) == len(theirs)
        for i in range(len(theirs)):
            assert ours[i].id == theirs[i].id
            for name in ("phones_N", "durations_N", "codes_Tx8"):
                np.testing.assert_array_equal(getattr(ours[i], name), getattr(theirs[i], name))


def test_each_bad_textgrid_is_quarantined_for_its_own_reason(folder, small_corpus, codec_facts, alignments, tmp_path):
    def spoil(place, fault, change):
        one = small_corpus.utterances[place]
        length, parts = alignments[one.id]
        path = folder / one.speaker / f"{one.id}.TextGrid"
        faults[one.id] = fault
        change(path, length, list(parts))

    def write(path, length, parts):
        path.write_text(long_textgrid({"phones": parts}, length), encoding="utf-8")

    def stretched(path, length, parts, seconds):
        label, start, _ = parts[-1]
        write(path, length + seconds, [*parts[:-1], (label, start, length + seconds)])

    def overlapping(path, length, parts):
        label, start, end = parts[2]
        write(path, length, [*parts[:2], (label, start - 0.05, end), *parts[3:]])

    def renamed(path, length, parts):
        write(path, length, [("X", *parts[0][1:]), *parts[1:]])

    faults = {}
    spoil(0, "textgrid-missing", lambda path, length, parts: path.unlink())
    spoil(1, "textgrid-malformed", lambda path, length, parts: path.write_bytes(path.read_bytes()[:200]))
    spoil(2, "textgrid-malformed", lambda path, length, parts: path.write_text(long_textgrid({"notes": parts}, length)))
    spoil(3, "textgrid-overlap", overlapping)
    spoil(4, "textgrid-length", lambda path, length, parts: stretched(path, length, parts, 0.5))
    spoil(5, "textgrid-length", lambda path, length, parts: write(path, length - 0.5, parts[:1]))
    spoil(6, "phone-unknown", renamed)
    spoil(7, "phone-unknown", lambda path, length, parts: write(path, length, [("spn", 0.0, length)]))
    summary = _prepare(small_corpus, tmp_path / "out", codec_facts, folder)
    lines = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines())
    assert {line["id"]: line["reason"] for line in lines} == faults
    assert (summary.found, summary.written) == (25, 17)


@pytest.mark.slow
def test_textgrids_that_changed_are_noticed(folder, small_corpus, codec_facts, tmp_path):
    _prepare(small_corpus, tmp_path / "out", codec_facts, folder)
    assert _prepare(small_corpus, tmp_path / "out", codec_facts, folder) is None
    path = next(folder.rglob("*.TextGrid"))
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match=r"made with other settings .*utterances_sha256"):
        _prepare(small_corpus, tmp_path / "out", codec_facts, folder)


def test_a_folder_without_textgrids_is_refused_before_anything_is_made(small_corpus, codec_facts, tmp_path):
    with pytest.raises(InputError, match="no such folder of TextGrids"):
        _prepare(small_corpus, tmp_path / "out", codec_facts, tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
