"""One run on several processes: how they find each other.

jax is imported where it is used: `ellav doctor` has these options, and runs where jax doesn't.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Annotated

from tyro.conf import arg

from ellav_jax.errors import InputError, RunError
from launch.processes.meeting import Place, meet


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

    Raises as `find_place`, `meet` and `initialize`.
    """
    if place := find_place(group, environment):
        with meet(place, group.start_timeout):
            initialize(place, group.start_timeout)


def find_place(group: ProcessGroup, environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place in its run; None where it is a run of its own.

    Raises InputError for options that don't go together, for --distributed without a scheduler, and where a scheduler has
    started several tasks and none of the options says that they are one run: each would be a run of its own in the same
    work directory.
    """
    given = [group.coordinator, group.num_processes, group.process_id]
    if given == [None] * 3 and not group.distributed:
        if tasks := _tasks(environment):
            raise InputError(
                f"this is one of {tasks} tasks; give --distributed to make them one run, or start a single task"
            )
        return None
    if group.distributed == (given != [None] * 3) or (None in given and given != [None] * 3):
        raise InputError("give either --distributed alone, or --coordinator, --num-processes and --process-id together")
    if group.start_timeout < 1:
        raise InputError(f"--start-timeout {group.start_timeout}: expected at least 1 second")
    if group.distributed:
        return _ask_scheduler(group.start_timeout, environment)
    if not 0 <= group.process_id < group.num_processes:
        raise InputError(f"--process-id {group.process_id}: expected 0 to {group.num_processes - 1}")
    if not group.coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator {group.coordinator}: expected HOST:PORT")
    return Place(group.coordinator, group.num_processes, group.process_id)


def initialize(place: Place, timeout: int) -> None:
    """Starts JAX's distributed runtime, the processes having met. Raises RunError.

    A process that ends within these milliseconds is jax's to miss: it then ends the others, after `timeout` seconds, by
    SIGABRT.
    """
    import jax

    try:
        jax.distributed.initialize(
            place.address,
            place.num_processes,
            place.process_id,
            place.local_device_ids,
            initialization_timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the processes of this run did not meet at {place.address}: {error}") from error


def _ask_scheduler(timeout: int, environment: Mapping[str, str]) -> Place:
    # What `jax.distributed.initialize()` itself asks, and does not hand out.
    from jax._src.clusters import ClusterEnv

    # Slurm's environment has JAX give each process the one GPU of its number, unless this variable says otherwise.
    told = environment.get("JAX_LOCAL_DEVICE_IDS")
    try:
        address, count, own, devices = ClusterEnv.auto_detect_unset_distributed_params(
            environment.get("JAX_COORDINATOR_ADDRESS"),
            None,
            None,
            [int(one) for one in told.split(",")] if told else None,
            None,
            timeout,
        )
    except (RuntimeError, ValueError, LookupError, OSError) as error:
        raise RunError(f"--distributed: what the scheduler tells is not enough ({error!r})") from error
    if None in (address, count, own):
        raise InputError(
            "--distributed: no scheduler has started this process (Slurm, MPI, Kubernetes, Cloud TPU); give --coordinator, "
            "--num-processes and --process-id"
        )
    return Place(address, count, own, None if devices is None else tuple(devices))


def _tasks(environment: Mapping[str, str]) -> int:
    """How many tasks a scheduler says that this one is of; 0 for one or none."""
    counts = [environment.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")]
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    most = max([len(hosts), *(int(count) for count in counts if count.isdigit())])
    return most if most > 1 else 0
