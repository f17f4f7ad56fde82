"""Processes of their own: their environment, their end, and how many there are."""

import os
import sys

import jax
import pytest

from ellav_jax.errors import InputError, RunError
from launch.benchmarks import process as bench_process
from launch.benchmarks.options import whole_numbers
from launch.benchmarks.process import Task, in_processes, peak_bytes, peak_resident_bytes
from launch.benchmarks.record import Point
from launch.processes.distributed import ProcessGroup


def test_devices_are_in_the_environment_before_anything_is_imported(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    found = in_processes(Task("a", os.getenv, ("JAX_NUM_CPU_DEVICES",), devices=2))
    assert found == "2"
    assert in_processes(Task("a", os.getenv, ("CUDA_VISIBLE_DEVICES",), devices=2)) == "4,5"
    assert in_processes(Task("a", os.getenv, ("JAX_ENABLE_COMPILATION_CACHE",))) == "0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


def test_processes_of_a_group_are_told_of_each_other():
    group = in_processes(Task("a", ProcessGroup, (), processes=2, devices=2))
    assert (group.distributed, group.num_processes, group.process_id) == (False, 2, 0)
    assert group.coordinator.startswith("127.0.0.1:")


def test_errors_come_back_and_a_death_is_told():
    with pytest.raises(InputError, match="--rows 0: expected"):
        in_processes(Task("a", whole_numbers, ("rows", "0")))
    with pytest.raises(RunError, match="the process of a died"):
        in_processes(Task("a", os._exit, (9,)))


def test_what_the_processes_themselves_take_is_not_counted_as_others(monkeypatch):
    """A child that works for half a second is all that this machine seems to do."""
    busy = iter([100.0, 100.5])
    monkeypatch.setattr(bench_process, "_busy_seconds", lambda: next(busy))
    code = "import time\nwhile time.process_time() < 0.5: pass"
    point = Point({}, {}, {})
    task = Task("a", exec, (code,))
    monkeypatch.setattr(bench_process, "in_processes", lambda task: (in_processes(task), (point, {}))[1])
    found, _ = bench_process._with_others(task)
    assert found.figures["others_share"] == 0.0


def test_the_peak_of_memory_grows_with_what_is_held():
    before = peak_resident_bytes()
    held = bytearray(os.urandom(1)) * (int(before) + 50_000_000)
    assert peak_resident_bytes() >= before + 40_000_000, sys.getsizeof(held)
    assert peak_bytes(jax.devices()[:1]) == peak_resident_bytes()  # a CPU has no memory of its own
