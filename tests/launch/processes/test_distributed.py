"""Which command lines make several processes one run, which are refused before they wait, and who is missed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ellav_jax.errors import InputError
from launch.processes.distributed import ProcessGroup, connect, find_place
from launch.processes.meeting import Place
from tests.launch.processes.meetings import free_address

ROOT = Path(__file__).parents[3]


def test_a_process_alone_joins_nobody():
    connect(ProcessGroup(), {})
    connect(ProcessGroup(), {"SLURM_STEP_NUM_TASKS": "1", "TPU_WORKER_HOSTNAMES": "localhost"})


@pytest.mark.parametrize(
    "environment",
    [{"SLURM_STEP_NUM_TASKS": "4"}, {"OMPI_COMM_WORLD_SIZE": "4"}, {"TPU_WORKER_HOSTNAMES": "a,b,c,d"}],
    ids=lambda environment: next(iter(environment)),
)
def test_one_of_several_tasks_must_say_whether_they_are_one_run(environment):
    with pytest.raises(InputError, match="one of 4 tasks; give --distributed"):
        connect(ProcessGroup(), environment)


@pytest.mark.parametrize(
    "group, message",
    [
        (ProcessGroup(coordinator="localhost:1"), "--coordinator, --num-processes and --process-id together"),
        (ProcessGroup(distributed=True, process_id=0), "either --distributed alone"),
        (ProcessGroup(False, "localhost:1", 2, 2), "--process-id 2: expected 0 to 1"),
        (ProcessGroup(False, "localhost", 2, 0), "--coordinator localhost: expected HOST:PORT"),
        (ProcessGroup(False, "localhost:1", 2, 0, 0), "--start-timeout 0: expected at least 1 second"),
    ],
    ids=["incomplete", "both", "process out of range", "no port", "no time"],
)
def test_options_that_do_not_go_together_are_refused(group, message):
    with pytest.raises(InputError, match=message):
        connect(group, {})


def test_without_a_scheduler_distributed_says_that_there_is_none():
    with pytest.raises(InputError, match="--distributed: no scheduler has started this process"):
        connect(ProcessGroup(distributed=True), {})


def test_a_place_is_the_one_that_was_given():
    assert find_place(ProcessGroup(False, "h:1", 4, 3), {}) == Place("h:1", 4, 3)


def test_slurm_tells_the_place(monkeypatch):
    """As jax reads it: the first node of the list, and a port that is a function of the job's number."""
    variables = {
        "SLURM_JOB_ID": "4097",
        "SLURM_STEP_NODELIST": "node[007-009]",
        "SLURM_NTASKS": "6",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_NODES": "3",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    port = 65535 - 4095 + 4097 % 4096
    assert find_place(ProcessGroup(distributed=True), os.environ) == Place(f"node007:{port}", 6, 5, (1,))
    # One process with all GPUs of its node.
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "0,1,2,3")
    assert find_place(ProcessGroup(distributed=True), os.environ).local_device_ids == (0, 1, 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("coming, missing", [([0], "process 1"), ([1], "process 0"), ([0, 2], "processes 1 and 3")])
def test_processes_that_did_not_come_are_named_by_all_that_did(tmp_path, coming, missing):
    count = 2 if len(coming) == 1 else 4
    address = free_address()
    command = [sys.executable, "-m", "launch.cli", "doctor", "--start-timeout", "10", "--coordinator", address]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    running = [
        subprocess.Popen(
            [*command, "--num-processes", str(count), "--process-id", str(process)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in coming
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert time.monotonic() - start < 60
    assert [process.returncode for process in running] == [1] * len(coming)
    for error in errors:
        assert error.startswith(
            f"ellav: error: the processes of this run did not meet within 10 s: of {count}, {missing} did not come; "
        )
        assert error.count("\n") == 1
