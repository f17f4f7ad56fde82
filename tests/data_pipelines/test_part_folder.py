"""Parts of a data set: who may work at the same time, and that the data set is that of one `ellav prepare`."""

import dataclasses
import itertools
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from data_pipelines.corpora.utterance import AudioFile
from data_pipelines.listing import Listing, list_corpus
from data_pipelines.local_engine import LocalEngine
from data_pipelines.part_folder import Part, PartFolder
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.work_folder import WorkFolder, listing_path
from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend

FRONTEND = default_frontend()
CONFIG = PrepareConfig(shards=2, group_size=8)
"""As the data set of `prepared_bundled`: 25 clips in 4 groups."""
SETTINGS = {"corpus": "mine", "shards": 2}


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(InputError, match="expected I/N, the I-th of N parts"):
        Part.from_text(text)


def test_each_group_belongs_to_one_part():
    for count in (1, 2, 3, 30):
        parts = [Part.from_text(f"{number}/{count}") for number in range(1, count + 1)]
        assert [sum(part.has(group) for part in parts) for group in range(20)] == [1] * 20


def _joined(out, number, corpus, settings=SETTINGS, count=3):
    """The folder of a part that has listed this corpus; it is let go where it may not join."""
    folder = PartFolder(out, Part(number, count))
    try:
        list_corpus(corpus, folder.listing, group_size=8)
        folder.take(settings)
    except BaseException:
        folder.close()
        raise
    return folder


def test_parts_share_the_folder_and_exclude_their_like_and_the_whole(tmp_path, small_corpus):
    out = tmp_path / "out"
    first, second = (_joined(out, number, small_corpus) for number in (1, 2))
    with pytest.raises(InputError, match="another process is making part 2/3"):
        PartFolder(out, Part(2, 3))
    with pytest.raises(InputError, match="another `ellav prepare` is writing"):
        WorkFolder(out)
    first.close()
    with pytest.raises(InputError, match="another `ellav prepare` is writing"):
        WorkFolder(out)
    _joined(out, 1, small_corpus).close()
    second.close()
    whole = WorkFolder(out)
    whole.take(SETTINGS)
    with pytest.raises(InputError, match="another `ellav prepare` is writing"):
        _joined(out, 1, small_corpus)
    whole.close()
    assert [path.name for path in (out / ".prepare").iterdir() if path.name.startswith("listing-")] == []


def test_a_part_with_other_settings_changes_nothing(tmp_path, small_corpus):
    out = tmp_path / "out"
    first = _joined(out, 1, small_corpus)
    before = listing_path(first.path).read_bytes()
    shorter = dataclasses.replace(small_corpus, utterances=small_corpus.utterances[:9])
    with pytest.raises(InputError, match=r"made with other settings \(shards 2 there, 3 now\)"):
        _joined(out, 2, shorter, SETTINGS | {"shards": 3})
    first.close()
    with pytest.raises(InputError, match=r"made with other settings \(shards 2 there, 3 now\)"):
        _joined(out, 2, shorter, SETTINGS | {"shards": 3})
    assert listing_path(first.path).read_bytes() == before


def test_recordings_may_move_between_parts_and_not_while_one_is_at_work(tmp_path, small_corpus):
    out = tmp_path / "out"
    moved = [
        dataclasses.replace(one, audio=AudioFile(Path(shutil.copy(one.audio.path, tmp_path))))
        for one in small_corpus.utterances
    ]
    first = _joined(out, 1, small_corpus)
    with pytest.raises(InputError, match="other parts at work read the recordings at other paths"):
        _joined(out, 2, dataclasses.replace(small_corpus, utterances=moved))
    first.close()
    second = _joined(out, 2, dataclasses.replace(small_corpus, utterances=moved))
    assert list(itertools.chain.from_iterable(Listing(listing_path(second.path)))) == moved
    second.close()


def _enter_and_leave(out, number, corpus, start):
    start.wait()
    for _ in range(10):
        _joined(out, number, corpus).close()


def test_parts_that_start_at_once_all_get_in(tmp_path, small_corpus):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    processes = [
        context.Process(target=_enter_and_leave, args=(tmp_path / "out", number, small_corpus, start))
        for number in (1, 2, 3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(Listing(listing_path(tmp_path / "out/.prepare"))) == 4


@pytest.mark.slow
def test_parts_one_of_them_interrupted_make_the_data_set_of_one_command(
    tmp_path, prepared_bundled, small_corpus, codec_facts
):
    out = tmp_path / "out"
    arguments = (small_corpus, out, codec_facts, FRONTEND, CONFIG)

    def interrupt(done, total, quarantined):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(*arguments, LocalEngine(1), progress=interrupt, part=Part(1, 2))
    assert not (out / "dataset.json").exists()
    reports = []
    first = prepare(*arguments, LocalEngine(1), progress=lambda *report: reports.append(report), part=Part(1, 2))
    # Groups 0 and 2 of 4.
    assert (first.found, first.written, first.continued_from, first.groups_left) == (16, 16, 8, 2)
    assert (reports[0], reports[-1]) == ((8, 16, 0), (16, 16, 0))
    with pytest.raises(InputError, match=r"made with other settings \(shards 2 there, 3 now\)"):
        prepare(*arguments[:-1], dataclasses.replace(CONFIG, shards=3), LocalEngine(1), part=Part(2, 2))
    second = prepare(*arguments, LocalEngine(2), part=Part(2, 2))
    assert (second.found, second.continued_from, second.groups_left) == (9, 0, 0)
    assert os.listdir(out) == [".prepare"]
    whole = prepare(*arguments, LocalEngine(1))
    assert (whole.found, whole.continued_from, whole.groups_left) == (25, 25, None)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in prepared_bundled.iterdir()
    }
    assert prepare(*arguments, LocalEngine(1), part=Part(1, 2)) is None


def test_a_part_counts_its_own_faults(tmp_path, small_corpus, codec_facts):
    absent = [dataclasses.replace(one, audio=AudioFile(tmp_path / "absent")) for one in small_corpus.utterances[:3]]
    corpus = dataclasses.replace(small_corpus, utterances=absent)
    config = PrepareConfig(group_size=1)
    part = prepare(corpus, tmp_path / "out", codec_facts, FRONTEND, config, LocalEngine(1), part=Part(1, 2))
    assert (part.found, part.written, part.faults, part.groups_left) == (2, 0, {"audio-missing": 2}, 1)
