import os
import sys

import numpy as np
import pytest

from data_pipelines.align import AlignmentJob
from data_pipelines.group import GroupJob
from data_pipelines.listing import list_corpus
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.records import Dataset
from data_pipelines.work_folder import WorkFolder, chunk_path, listing_path, read_chunk
from ellav_jax.codec import load_codec
from ellav_jax.errors import InputError, RunError
from ellav_jax.frontend.frontend import default_frontend

CONFIG = PrepareConfig(shards=2, group_size=8)

# Where a job of this class is unpickled, the aligner crashes on one utterance as C code does.
CRASHING = """
import os
import data_pipelines.group
from data_pipelines import local_engine

align = data_pipelines.group.align_utterance

def align_or_crash(utterance, job):
    if utterance.id in CRASHING:
        os.abort()
    return align(utterance, job)

data_pipelines.group.align_utterance = local_engine.align_utterance = align_or_crash

class Job(data_pipelines.group.GroupJob):
    pass
"""


@pytest.fixture
def crashing_job(tmp_path, monkeypatch):
    """A module whose `Job`s crash on the utterances of the given ids."""

    def make(ids, *fields):
        (tmp_path / "crashing_aligner.py").write_text(f"CRASHING = {ids!r}\n{CRASHING}")
        monkeypatch.syspath_prepend(tmp_path)
        # Here it must not be imported: it would change the module that this process uses.
        monkeypatch.setattr("data_pipelines.group.align_utterance", None)
        monkeypatch.setattr("data_pipelines.local_engine.align_utterance", None)
        import crashing_aligner

        return crashing_aligner.Job(*fields)

    yield make
    sys.modules.pop("crashing_aligner", None)


def _work(out, corpus):
    work = WorkFolder(out)
    list_corpus(corpus, listing_path(work.path), group_size=8)
    return work


def _alignment():
    return AlignmentJob(default_frontend(), None, None, 24000, 320, 0.1, 120.0)


@pytest.mark.slow
def test_an_utterance_that_crashes_the_aligner_is_rejected_and_the_others_are_not(
    tmp_path, small_corpus, codec_facts, crashing_job, capfd
):
    work = _work(tmp_path / "out", small_corpus)
    fatal = small_corpus.utterances[10].id
    job = crashing_job([fatal], work.path, "bundled", codec_facts.sha256, _alignment())
    chunks = list(LocalEngine(2).groups(job, [0, 1]))
    assert sorted((one.size, len(one.rejected)) for one in chunks) == [(8, 0), (8, 1)]
    (line,) = [line for one in chunks for line in one.rejected]
    assert (line["id"], line["reason"]) == (fatal, "aligner-crash")
    capfd.readouterr()  # Python's own words about the abort


def test_an_aligner_that_crashes_on_all_ends_the_run(tmp_path, small_corpus, codec_facts, crashing_job, capfd):
    work = _work(tmp_path / "out", small_corpus)
    job = crashing_job(
        [one.id for one in small_corpus.utterances], work.path, "bundled", codec_facts.sha256, _alignment()
    )
    with pytest.raises(RunError, match="the aligner crashed on 3 utterances in a row"):
        list(LocalEngine(1).groups(job, [0]))
    capfd.readouterr()


def test_the_bytes_dont_depend_on_the_number_of_cores(tmp_path, prepared_bundled, small_corpus, codec_facts):
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs 2 cores")
    try:
        os.sched_setaffinity(0, {min(cores)})
        prepare(small_corpus, tmp_path / "out", codec_facts, default_frontend(), CONFIG, LocalEngine(1))
    finally:
        os.sched_setaffinity(0, cores)
    names = [path.name for path in prepared_bundled.iterdir()]
    assert {(tmp_path / "out" / name).read_bytes() == (prepared_bundled / name).read_bytes() for name in names} == {
        True
    }


def test_where_there_is_an_accelerator_this_process_encodes(tmp_path, prepared_bundled, small_corpus, codec_facts):
    codec = load_codec("bundled")
    encoded = []
    encode_batch = codec.encode_batch
    codec.encode_batch = lambda waves: encoded.append(len(waves)) or encode_batch(waves)
    prepare(small_corpus, tmp_path / "out", codec_facts, default_frontend(), CONFIG, LocalEngine(2, codec))
    assert sorted(encoded) == [1, 8, 8, 8]
    for split in ("train", "test"):
        ours, theirs = (Dataset.open(path).records(split) for path in (tmp_path / "out", prepared_bundled))
        for i in range(len(theirs)):
            assert ours[i].id == theirs[i].id
            np.testing.assert_array_equal(ours[i].durations_N, theirs[i].durations_N)
            # On another number of threads sums are rounded differently, and now and then a code flips.
            assert np.mean(ours[i].codes_Tx8[:, 0] == theirs[i].codes_Tx8[:, 0]) > 0.95


def test_chunks_that_are_there_are_not_made_again(tmp_path, small_corpus, codec_facts):
    work = _work(tmp_path / "out", small_corpus)
    job = GroupJob(work.path, "bundled", codec_facts.sha256, _alignment())
    (first,) = LocalEngine(1).groups(job, [1])
    before = chunk_path(work.path, 1).stat().st_mtime_ns
    (again,) = LocalEngine(1).groups(job, [1])
    assert again == first
    assert chunk_path(work.path, 1).stat().st_mtime_ns == before
    assert [record.id for record in read_chunk(chunk_path(work.path, 1))] == [
        one.id for one in small_corpus.utterances[8:16]
    ]


def test_a_codec_that_changed_under_way_is_refused(tmp_path, small_corpus, codec_facts):
    work = _work(tmp_path / "out", small_corpus)
    job = GroupJob(work.path, "bundled", "0" * 64, _alignment())
    with pytest.raises(InputError, match=f"codec bundled: sha256 {codec_facts.sha256} here, expected 000"):
        list(LocalEngine(1).groups(job, [0]))


def test_no_workers_are_refused(codec_facts):
    with pytest.raises(InputError, match="0 workers; expected at least 1"):
        LocalEngine(0)
