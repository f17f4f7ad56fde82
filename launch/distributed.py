"""One run on several processes: how they find each other."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Annotated

import jax
from tyro.conf import arg

from ellav_jax.errors import InputError, RunError


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, each of which is given the same command.

    distributed: join those that Slurm, MPI, Kubernetes or a Cloud TPU pod started, as they tell it. coordinator,
    num_processes, process_id: or join these: process 0 listens at HOST:PORT.
    """

    distributed: bool = False
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None
    num_processes: Annotated[int | None, arg(metavar="N")] = None
    process_id: Annotated[int | None, arg(metavar="I")] = None
    start_timeout: Annotated[int, arg(metavar="SECONDS")] = 300
    """How long the processes wait for each other at the start."""


def connect(group: ProcessGroup, environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes, before the first use of a device; does nothing where one process is a run.

    Raises InputError for options that don't go together, and where a scheduler has started several tasks and none of the
    options says that they are one run: each would be a run of its own in the same work directory. RunError where the
    others don't come.
    """
    given = [group.coordinator, group.num_processes, group.process_id]
    if given == [None] * 3 and not group.distributed:
        if tasks := _tasks(environment):
            raise InputError(
                f"this is one of {tasks} tasks; give --distributed to make them one run, or start a single task"
            )
        return
    if group.distributed == (given != [None] * 3) or (None in given and given != [None] * 3):
        raise InputError("give either --distributed alone, or --coordinator, --num-processes and --process-id together")
    if group.num_processes is not None and not 0 <= group.process_id < group.num_processes:
        raise InputError(f"--process-id {group.process_id}: expected 0 to {group.num_processes - 1}")
    if group.coordinator is not None and not group.coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator {group.coordinator}: expected HOST:PORT")
    try:
        jax.distributed.initialize(*given, initialization_timeout=group.start_timeout)
    except (RuntimeError, ValueError) as error:
        where = group.coordinator or "the address that the scheduler tells"
        raise RunError(f"the processes of this run did not meet at {where}: {error}") from error


def _tasks(environment: Mapping[str, str]) -> int:
    """How many tasks a scheduler says that this one is of; 0 for one or none."""
    counts = [environment.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")]
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    most = max([len(hosts), *(int(count) for count in counts if count.isdigit())])
    return most if most > 1 else 0
