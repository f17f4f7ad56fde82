"""Which command lines make several processes one run, and which are refused before they wait."""

import pytest

from ellav_jax.errors import InputError, RunError
from launch.distributed import ProcessGroup, connect


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
    ],
    ids=["incomplete", "both", "process out of range", "no port"],
)
def test_options_that_do_not_go_together_are_refused(group, message):
    with pytest.raises(InputError, match=message):
        connect(group, {})


def test_without_a_scheduler_distributed_says_that_there_is_none():
    with pytest.raises(RunError, match="did not meet at the address that the scheduler tells"):
        connect(ProcessGroup(distributed=True), {})
