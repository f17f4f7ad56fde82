"""A work directory that all processes share, and those that they don't."""

import socket
from pathlib import Path

import pytest

from ellav_jax.errors import InputError
from launch.processes.shared_storage import check_storage
from tests.launch.processes.meetings import gather

HOST = socket.gethostname()


def test_a_shared_directory_is_left_as_it_was(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "experiment.json").write_text("{}")
    assert gather(lambda meeting: check_storage(meeting, tmp_path / "w"), 3) == [None] * 3
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["experiment.json"]


def test_a_directory_that_is_not_there_is_made(tmp_path):
    assert gather(lambda meeting: check_storage(meeting, tmp_path / "runs" / "w"), 2) == [None] * 2
    assert list((tmp_path / "runs" / "w").iterdir()) == []


def test_what_an_earlier_start_left_is_not_taken_for_this_one(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / ".preflight").mkdir(parents=True)
        for process in range(4):
            (tmp_path / folder / ".preflight" / f"process-{process}").write_text("0123456789abcdef")
    assert gather(lambda meeting: check_storage(meeting, tmp_path / "a"), 2) == [None] * 2
    assert list((tmp_path / "a").iterdir()) == []
    errors = gather(lambda meeting: check_storage(meeting, tmp_path / "ab"[meeting.place.process_id]), 2, timeout=1)
    assert "process 1" in str(errors[1])


def test_processes_with_a_directory_of_their_own_are_named(tmp_path):
    def act(meeting):
        own = meeting.place.process_id in (1, 3)
        check_storage(meeting, tmp_path / (f"own-{meeting.place.process_id}" if own else "shared"))

    errors = gather(act, 4, timeout=1)
    assert len({str(error) for error in errors}) == 1
    assert isinstance(errors[0], InputError)
    assert str(errors[0]).startswith(
        f"processes 1 and 3 (host {HOST}) can't see what process 0 (host {HOST}) wrote in {tmp_path / 'shared'} 0.5 s before"
    )
    assert not (tmp_path / "shared" / ".preflight").exists()
    assert not (tmp_path / "own-1").exists()


@pytest.mark.parametrize("process", [0, 1])
def test_the_process_that_cannot_write_is_named(tmp_path, process):
    (tmp_path / ".preflight" / f"process-{process}").mkdir(parents=True)  # where its file has to be
    errors = gather(lambda meeting: check_storage(meeting, tmp_path), 3)
    assert all(isinstance(error, InputError) for error in errors)
    expected = f"process {process} (host {HOST}): can't write in {tmp_path} (Is a directory); --workdir must be"
    assert [str(error).startswith(expected) for error in errors] == [True] * 3


def test_a_file_in_the_way_and_a_file_system_that_nobody_can_write_are_said(tmp_path):
    (tmp_path / "file").write_text("")
    errors = gather(lambda meeting: check_storage(meeting, tmp_path / "file"), 2)
    assert f"{tmp_path / 'file'}: a file is in the way" in str(errors[1])
    errors = gather(lambda meeting: check_storage(meeting, Path("/sys/kernel/ellav")), 2)
    assert f"process 0 (host {HOST}): can't write in /sys/kernel/ellav (" in str(errors[1])
