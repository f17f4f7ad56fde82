"""Which GPUs of a machine each process gets, without any."""

import importlib.util

import pytest

from ellav_jax.errors import InputError
from launch.local import accelerators as local_accelerators
from launch.local.accelerators import check_no_tpus, split_gpus, visible_gpus


@pytest.fixture
def installed(monkeypatch):
    """`installed("jax_cuda12_plugin")`: of the packages that matter here these are, and no others."""

    def have(*names):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in names else None)

    have("jax_cuda12_plugin", "libtpu")
    return have


@pytest.fixture
def devices(tmp_path):
    """A /dev with three GPUs."""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({}, ["0", "1", "2"]),
        ({"JAX_PLATFORMS": "cuda,cpu"}, ["0", "1", "2"]),
        ({"JAX_PLATFORMS": "cpu"}, []),
        ({"CUDA_VISIBLE_DEVICES": "2, GPU-8f"}, ["2", "GPU-8f"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
    ],
    ids=str,
)
def test_the_gpus_are_those_that_jax_would_use(installed, devices, environment, gpus):
    assert visible_gpus(environment, devices) == gpus


def test_without_gpus_or_without_jax_for_them_there_are_none(installed, devices, tmp_path_factory):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}, tmp_path_factory.mktemp("dev")) == []
    installed()
    assert visible_gpus({}, devices) == []


@pytest.mark.parametrize(
    ("processes", "each", "split"),
    [
        (2, None, [["0", "1"], ["2", "3"]]),
        (4, None, [["0"], ["1"], ["2"], ["3"]]),
        (1, None, [["0", "1", "2", "3"]]),
        (3, 1, [["0"], ["1"], ["2"]]),
    ],
)
def test_gpus_are_split_in_order_and_no_two_processes_see_one(processes, each, split):
    assert split_gpus(["0", "1", "2", "3"], processes, each) == split


@pytest.mark.parametrize(
    ("processes", "each", "said"),
    [
        (3, None, "4 GPUs do not divide"),
        (5, None, "at most 4, or --env JAX_PLATFORMS=cpu"),
        (2, 3, "want 6 GPUs, there are 4"),
    ],
)
def test_a_split_that_cannot_be_is_refused(processes, each, said):
    with pytest.raises(InputError, match=said):
        split_gpus(["0", "1", "2", "3"], processes, each)


def test_the_name_of_a_gpu_is_what_its_driver_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local_accelerators.gpu_kind() is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA H100 80GB HBM3\necho NVIDIA H100 80GB HBM3\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert local_accelerators.gpu_kind() == "NVIDIA H100 80GB HBM3"


def test_tpus_are_left_to_one_process(installed, devices):
    check_no_tpus({}, devices)
    (devices / "accel0").touch()
    with pytest.raises(InputError, match="one process has all TPUs"):
        check_no_tpus({}, devices)
    check_no_tpus({"JAX_PLATFORMS": "cpu"}, devices)
    installed()
    check_no_tpus({}, devices)
