"""How many CPU devices each of several processes gets, and what is refused before they begin."""

import dataclasses
import os

import pytest

from configs.experiment import find_experiment
from ellav_jax.errors import InputError
from ellav_jax.files import take_lock
from ellav_jax.sharding import MeshConfig
from launch.jobs.hardware import Devices
from launch.local.check import check_data, check_workdir, cpus_of, gpus_of, told_devices


@pytest.fixture
def experiment(experiments):
    """`experiment(rows, data, fsdp, tensor)`: a small one with so many rows a batch, on such a mesh."""
    small = find_experiment(f"{experiments}:gar")

    def make(rows, *mesh):
        return dataclasses.replace(small, data=dataclasses.replace(small.data, batch_rows=rows), mesh=MeshConfig(*mesh))

    return make


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("rows", "mesh", "processes", "each"),
    [
        (16, (), 2, 4),
        (16, (), 3, None),
        (12, (), 3, 2),
        (4, (), 2, 2),
        (6, (), 2, 3),
        (16, (), 16, 1),
        (16, (2, 1, 1), 2, 1),
        (16, (-1, 2, 1), 2, 4),
        (2, (-1, 1, 2), 2, 2),
        (16, (2, 1, 1), 4, None),
    ],
)
def test_each_process_has_its_share_of_the_cores_as_far_as_they_divide(
    experiment, eight_cores, rows, mesh, processes, each
):
    if each is None:
        with pytest.raises(InputError, match=r"divide|does not fit"):
            cpus_of(experiment(rows, *mesh), processes, None, {})
    else:
        number = each * processes
        assert cpus_of(experiment(rows, *mesh), processes, None, {}) == (Devices(f"cpu-{number}", number), each)


def test_what_is_asked_for_or_in_the_environment_comes_first(experiment, eight_cores):
    environment = {"JAX_NUM_CPU_DEVICES": "2"}
    assert cpus_of(experiment(16), 2, None, environment) == (Devices("cpu-4", 4), None)
    assert cpus_of(experiment(16), 2, 8, environment) == (Devices("cpu-16", 16), 8)
    with pytest.raises(InputError, match="does not divide over 6 devices"):
        cpus_of(experiment(16), 2, 3, {})
    assert told_devices({"XLA_FLAGS": "--a --xla_force_host_platform_device_count=4"}) == 4
    assert told_devices({}) is None


def test_on_gpus_the_experiment_must_fit_as_well(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_of(experiment(16), 8) == Devices("gpu-8", 8)
    with pytest.raises(InputError, match="does not divide over 6 devices"):
        gpus_of(experiment(16), 6)


def test_data_sets_are_opened_with_or_without_their_weight(prepared_bundled, tmp_path):
    check_data([str(prepared_bundled), f"{prepared_bundled}:0.5"])
    with pytest.raises(InputError, match="no such data set"):
        check_data([str(prepared_bundled), f"{tmp_path / 'missing'}:0.5"])


def test_a_work_directory_must_be_one_and_free(tmp_path):
    check_workdir(tmp_path / "missing")
    workdir = tmp_path / "w"
    workdir.mkdir()
    (workdir / "launches").mkdir()
    check_workdir(workdir)
    with take_lock(workdir / ".lock", "taken"), pytest.raises(InputError, match="another `ellav train` is at work"):
        check_workdir(workdir)
    check_workdir(workdir)
    (workdir / "letters").touch()
    with pytest.raises(InputError, match="not a work directory"):
        check_workdir(workdir)
    with pytest.raises(InputError, match="a file is in the way"):
        check_workdir(workdir / "letters")
