"""Points measured in processes of their own: devices, flags and peaks of memory are then each point's own.

This module imports no jax: how many devices there are has to be in the environment before jax is.
"""

import dataclasses
import os
import platform
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ellav_jax.child_process import end_with_parent
from ellav_jax.errors import RunError
from launch.benchmarks.record import Point, join_runs
from launch.processes.local_processes import free_address

Found = tuple[Point, dict[str, Any]]
"""A point with the repetitions of one run, and the environment it was measured in."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A point to be measured: `function(*arguments)` gives what is `Found`; all of it can be sent to another process.

    processes: of which the point is one run; each is given its `launch.processes.distributed.ProcessGroup` fields behind the
    arguments, and the first one's findings count. devices: in all, None for what the machine has.
    """

    name: str
    function: Callable[..., Found]
    arguments: tuple[Any, ...]
    processes: int = 1
    devices: int | None = None


def measure(tasks: Sequence[Task], runs: int) -> tuple[list[Point], dict[str, Any]]:
    """Measures each task `runs` times, all tasks by turns, and says how far it is on stderr. → points, environment.

    The environment is that of the first one. Raises InputError as the tasks do, RunError where a process dies.
    """
    found: list[list[Point]] = [[] for _ in tasks]
    environments = []
    for run in range(runs):
        for number, task in enumerate(tasks):
            again = f", run {run + 1} of {runs}" if runs > 1 else ""
            print(f"point {number + 1} of {len(tasks)}: {task.name}{again}", file=sys.stderr, flush=True)
            point, environment = _with_others(task)
            found[number].append(point)
            environments.append(environment)
    return [join_runs(one) for one in found], environments[0]


def _with_others(task: Task) -> Found:
    """The task's findings and, as `others_share`, the share of the cores' time that other processes took meanwhile."""
    begin, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
    point, environment = in_processes(task)
    share = None
    if busy is not None:
        others = _busy_seconds() - busy - (_own_seconds() - own)
        share = max(0.0, others / ((time.perf_counter() - begin) * os.cpu_count()))
    return dataclasses.replace(point, figures=point.figures | {"others_share": share}), environment


def in_processes(task: Task) -> Found:
    """Runs a task in fresh processes, whose output goes to stderr, and returns what the first of them found."""
    groups: list[tuple[Any, ...]] = [()]
    if task.processes > 1:
        address = free_address()
        groups = [(False, address, task.processes, index) for index in range(task.processes)]
    with ExitStack() as stack:
        pools: list[ProcessPoolExecutor] = []
        for index in range(task.processes):
            variables = _variables(task.devices, task.processes, index)
            spawn = get_context("spawn")
            pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(variables,))
            pools.append(stack.enter_context(pool))
        stack.callback(_end_together, pools)
        ids = [pool.submit(os.getpid).result() for pool in pools]
        futures = [
            pool.submit(task.function, *task.arguments, *group) for pool, group in zip(pools, groups, strict=True)
        ]
        done, others = wait(futures, return_when=FIRST_EXCEPTION)
        for future, process in zip(futures, ids, strict=True):
            if future in others:  # it waits for one that has failed
                os.kill(process, signal.SIGKILL)
        errors = [error for future in futures if future in done and (error := future.exception())]
        for error in sorted(errors, key=lambda one: isinstance(one, BrokenProcessPool)):
            if isinstance(error, BrokenProcessPool):
                raise RunError(f"bench: the process of {task.name} died; was it killed for want of memory?") from error
            raise error
        return futures[0].result()


def _end_together(pools: Sequence[ProcessPoolExecutor]) -> None:
    """Waits for all at once: processes of a group wait for each other at their end."""
    with ThreadPoolExecutor(len(pools)) as threads:
        list(threads.map(ProcessPoolExecutor.shutdown, pools))


def _begin(variables: Mapping[str, str]) -> None:
    """The first thing in a fresh process, before anything imports jax."""
    end_with_parent()
    os.environ.update(variables)
    os.dup2(2, 1)  # the table alone goes to stdout


def _variables(devices: int | None, processes: int, index: int) -> dict[str, str]:
    """Environment of process `index`: its devices, and no programs that were compiled before."""
    variables = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    if devices is not None:
        own = devices // processes
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
        variables |= {
            "JAX_NUM_CPU_DEVICES": str(own),
            "CUDA_VISIBLE_DEVICES": ",".join(gpus[index * own : (index + 1) * own]),
        }
    return variables


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the machine started; None where Linux doesn't tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Those of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_resident_bytes() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process that started this one held
        return 1024.0 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak * (1 if platform.system() == "Darwin" else 1024))


def peak_bytes(devices: Sequence[Any]) -> float | None:
    """Peak memory of the fullest device, or on a CPU that of this process; None where the device doesn't tell."""
    if devices[0].platform == "cpu":
        return peak_resident_bytes()
    statistics = [device.memory_stats() for device in devices]
    if not all(one and "peak_bytes_in_use" in one for one in statistics):
        return None
    return float(max(one["peak_bytes_in_use"] for one in statistics))
