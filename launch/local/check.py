"""Whether a job fits on this machine and on its data, found out before its processes begin."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from jax.sharding import AbstractMesh, AxisType

from configs.experiment import Experiment
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.files import take_lock
from ellav_jax.hardware import find_chip
from ellav_jax.sharding import MESH_AXES, mesh_shape
from launch.jobs.hardware import Devices, check_fits
from launch.jobs.storage import split_weight
from launch.local.accelerators import gpu_kind
from launch.workdir import LOCK, check_place, taken_by_another


def check_data(data: Sequence[str]) -> None:
    """Opens each data set. Raises InputError."""
    for argument in data:
        Dataset.open(argument if Path(argument).exists() else split_weight(argument)[0])


def check_workdir(workdir: Path) -> None:
    """Raises InputError where it is no place for a run, or another one goes on in it."""
    check_place(workdir)
    if (workdir / LOCK).exists():
        take_lock(workdir / LOCK, taken_by_another(workdir)).close()


def gpus_of(experiment: Experiment, number: int) -> Devices:
    """So many GPUs of this machine. Raises InputError where the experiment does not fit on them."""
    chip = find_chip(gpu_kind() or "")
    hardware = Devices(f"{chip.name if chip else 'gpu'}-{number}", number)
    check_fits(experiment, hardware)
    return hardware


def cpus_of(
    experiment: Experiment, processes: int, each: int | None, environment: Mapping[str, str]
) -> tuple[Devices, int | None]:
    """CPU devices of all processes, and how many to tell each of them; None where the environment tells them.

    each: as asked for. Else what JAX_NUM_CPU_DEVICES or XLA_FLAGS of the environment say; else as many as there are cores
    for each process, as far as mesh and rows divide over all of them. Raises InputError where the experiment does not fit.
    """
    told = told_devices(environment) if each is None else None
    number = each or told or _cores_for(experiment, processes)
    hardware = _cpus(processes * number)
    check_fits(experiment, hardware)
    return hardware, None if told else number


def told_devices(environment: Mapping[str, str]) -> int | None:
    """CPU devices of a process by its environment; None where it doesn't say."""
    flag = re.search(r"host_platform_device_count=(\d+)", environment.get("XLA_FLAGS", ""))
    said = environment.get("JAX_NUM_CPU_DEVICES", flag[1] if flag else "")
    return int(said) if said.isdigit() and int(said) > 0 else None


def _cores_for(experiment: Experiment, processes: int) -> int:
    rows = experiment.data.batch_rows // experiment.train.accumulate
    most = max(1, len(os.sched_getaffinity(0)) // processes)
    for number in range(most, 1, -1):
        with contextlib.suppress(InputError):
            hardware = _cpus(processes * number)
            shape = mesh_shape(experiment.mesh, hardware.name, hardware.num_devices)
            mesh = AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
            experiment.sharding.of_batch(mesh, rows)
            return number
    return 1


def _cpus(number: int) -> Devices:
    return Devices(f"cpu-{number}", number)


def use_no_accelerator() -> None:
    """Models are only described here; accelerators stay free for the processes."""
    jax.config.update("jax_platforms", "cpu")
