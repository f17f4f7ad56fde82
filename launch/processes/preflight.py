"""Whether the processes of a run can be one: checked at its start, so that one line says what else ends in a hang.

What can be checked before JAX's runtime starts is: until then every process can still end at once. Process 0 compares; what
it finds is the same error in all of them. docs/preflight.md explains each.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from configs.experiment import Experiment
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError, RunError
from ellav_jax.sharding import make_mesh
from launch.processes.all_reduce import AllReduceTimes, time_all_reduce
from launch.processes.distributed import ProcessGroup, find_place, initialize
from launch.processes.meeting import Meeting, enumerate_, meet
from launch.processes.shared_storage import check_storage
from launch.processes.software import software

SKEW = 5.0
"""Seconds by which clocks may differ before it is said. Nothing here compares the times of two machines, so it is never an
error; but logs can't be laid side by side, and some minutes have a bucket refuse its credentials."""
_MOST = 4
# Seconds for an orderly end, once a process is lost.
_LAST = 10


def join(
    group: ProcessGroup,
    experiment: Experiment | None,
    data: Sequence[Path],
    workdir: Path | None,
    options: Mapping[str, Any] = {},
) -> list[Dataset]:
    """Joins the processes of a run, each of which calls it, before the first use of a device. → the data sets.

    Several are checked, as far as is given what they are about to do; process 0 says what was found. options: what else
    must be the same, by name (JSON). Raises InputError and RunError, naming processes: in all of them, in the same words.
    A process that is a run of its own is not checked.
    """
    place = find_place(group)
    if place is None:
        return [Dataset.open(path) for path in data]
    with meet(place, group.start_timeout) as meeting:
        began = time.monotonic()
        check_software(meeting)
        check_command(meeting, (experiment.to_json() if experiment else {}) | dict(options))
        datasets = open_same(meeting, data)
        if workdir:
            check_storage(meeting, workdir)
        clocks = meeting.clocks()
        initialize(place, group.start_timeout)
        with _ending():
            devices = check_devices(meeting, experiment)
            times = measure_network(meeting, devices["device count"] * place.num_processes)
        if place.process_id == 0:
            for line in report(meeting, devices, clocks, times, workdir, time.monotonic() - began):
                print(line, flush=True)
    return datasets


def check_software(meeting: Meeting) -> None:
    """Raises InputError where a process has other versions, or other source code."""
    remedy = "install the same versions, and the same source tree, for all processes"
    meeting.agree("versions", software, lambda found: compare(found, remedy, meeting.name))


def check_command(meeting: Meeting, command: Mapping[str, Any]) -> None:
    """Raises InputError where a process was given another experiment, other fields of it, or other options."""
    remedy = "start all processes with the same command"
    meeting.agree("command", lambda: flatten(command), lambda found: compare(found, remedy, meeting.name))


def open_same(meeting: Meeting, data: Sequence[Path]) -> list[Dataset]:
    """Opens the data sets. Raises InputError where a process can't, or finds others."""
    datasets: list[Dataset] = []

    def find() -> dict[str, str]:
        datasets.extend(Dataset.open(path) for path in data)
        return {f"data set {at}": f"sha256 {_digest(dataset)[:12]}" for at, dataset in enumerate(datasets, start=1)}

    remedy = "give all processes the same data sets, or copies of them, in the same order"
    meeting.agree("data sets", find, lambda found: compare(found, remedy, meeting.name))
    return datasets


def check_devices(meeting: Meeting, experiment: Experiment | None) -> dict[str, Any]:
    """ "device kind" and "device count" of each process. Raises InputError where they differ, where jax sees other
    processes than those of the run, or where the experiment's mesh does not fit all devices together."""
    count = meeting.place.num_processes

    def find() -> dict[str, Any]:
        local = jax.local_devices()
        return {
            "device kind": local[0].device_kind,
            "device count": len(local),
            "process count of jax": jax.process_count(),
        }

    def judge(found: list[dict[str, Any]]) -> dict[str, Any]:
        compare(found, "start all processes on the same hardware, and share its devices out alike", meeting.name)
        if found[0]["process count of jax"] != count:
            raise InputError(
                f"jax sees {found[0]['process count of jax']} processes on its {found[0]['device kind']} devices, not "
                f"{count}; install the jax for this hardware (pip list), or set JAX_PLATFORMS"
            )
        return found[0]

    devices = meeting.agree("devices", find, judge)
    if experiment:
        meeting.agree("mesh", lambda: make_mesh(experiment.mesh).size, lambda sizes: sizes[0])
    return devices


def measure_network(meeting: Meeting, count: int) -> AllReduceTimes | None:
    """Times of an all-reduce over all devices, None for a single one. Raises RunError where it doesn't end in time."""
    if count == 1:
        return None
    found = meeting.agree(
        "all-reduce",
        lambda: dataclasses.asdict(_limited(lambda: time_all_reduce(jax.devices()), meeting.timeout)),
        lambda times: times[0],
    )
    return AllReduceTimes(**found)


def report(
    meeting: Meeting,
    devices: Mapping[str, Any],
    clocks: Sequence[tuple[float, float]],
    times: AllReduceTimes | None,
    workdir: Path | None,
    seconds: float,
) -> list[str]:
    """The lines that process 0 says. clocks: as `Meeting.clocks` has them. seconds: that the preflight took."""
    count = meeting.place.num_processes
    hosts = list(dict.fromkeys(meeting.hosts))
    bound = max(abs(offset) + error for offset, error in clocks)
    storage = f"; {workdir} is shared and can be written" if workdir else ""
    who = f"{count} process{'es' * (count > 1)} on {enumerate_(hosts, most=4)}"
    each = f"{devices['device count']} × {devices['device kind']} each"
    lines = [f"preflight: {who}: same software, {each}{storage}; clocks within {_duration(bound)}"]
    ahead = [process for process, (offset, error) in enumerate(clocks) if abs(offset) - error > SKEW]
    if ahead:
        worst = max(ahead, key=lambda process: abs(clocks[process][0]))
        offset = clocks[worst][0]
        others = f" (and {len(ahead) - 1} more are off)" if len(ahead) > 1 else ""
        lines.append(
            f"preflight: warning: the clock of {meeting.name([worst])} is {abs(offset):.1f} s "
            f"{'ahead of' if offset > 0 else 'behind'} that of process 0{others}; set the machines' clocks (NTP)"
        )
    network = ""
    if times:
        network = (
            f"all-reduce over {times.devices} devices {_duration(times.latency)} for 4 bytes, {_duration(times.seconds)} "
            f"for {times.size >> 20} MiB each ({times.bandwidth / 1e9:.2f} GB/s a device); "
        )
    lines.append(f"preflight: {network}all of it {seconds:.1f} s")
    return lines


def compare(found: Sequence[Mapping[str, Any]], remedy: str, name: Callable[[Sequence[int]], str]) -> None:
    """Raises InputError where a process's values differ from those of process 0; name: what processes are called.

    "process 3 (host h) has jax 0.10.1, process 0 (host a) has 0.10.2; " and the remedy.
    """
    differences = []
    for key in dict.fromkeys(key for values in found for key in values):
        own = found[0].get(key)
        others: dict[str, list[int]] = {}
        for process, values in enumerate(found):
            if values.get(key) != own:
                others.setdefault(_value(key, values.get(key)), []).append(process)
        if others:
            theirs = ", ".join(
                f"{name(processes)} {'has' if len(processes) == 1 else 'have'} {value}"
                for value, processes in others.items()
            )
            differences.append(f"{theirs}, {name([0])} has {'none' if own is None else own}")
    if differences:
        more = [f"and {len(differences) - _MOST} more differences"] if len(differences) > _MOST else []
        raise InputError("; ".join([*differences[:_MOST], *more, remedy]))


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Nested fields under dotted names, each value as JSON."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        here = f"{path}{name}"
        flat |= flatten(value, f"{here}.") if isinstance(value, Mapping) else {here: json.dumps(value)}
    return flat


def _value(key: str, value: Any) -> str:
    return f"no {key}" if value is None else f"{key} {value}"


def _digest(dataset: Dataset) -> str:
    """SHA-256 of all that describes a data set: what it was made from and with, its shards, each entry's lengths."""
    digest = hashlib.sha256()
    for file in ("dataset.json", "frontend.json"):
        digest.update((dataset.path / file).read_bytes())
    for split in dataset.splits:
        for lengths_N in dataset.lengths(split):
            digest.update(lengths_N)
    return digest.hexdigest()


def _limited(find: Callable[[], AllReduceTimes], seconds: float) -> AllReduceTimes:
    """Collectives wait forever: in a thread, which is left behind. Raises RunError."""
    results: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((find(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise RunError(
            f"an all-reduce over all devices did not end within {seconds:g} s; look at the network between them "
            "(interfaces, firewall)"
        ) from None
    if error:
        raise error
    return result


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """Behind an error of a run that jax has joined: jax would wait minutes for a process that is lost, or for a collective
    that never ends."""
    try:
        yield
    except RunError:
        timer = threading.Timer(_LAST, os._exit, (1,))
        timer.daemon = True
        timer.start()
        raise


def _duration(seconds: float) -> str:
    """Three digits, in a unit that suits."""
    exponent = 0 if seconds >= 1 else 3 if seconds >= 1e-3 else 6
    value = seconds * 10**exponent
    digits = max(2 - math.floor(math.log10(value)), 0) if value > 0 else 0
    return f"{value:.{digits}f} {({0: 's', 3: 'ms', 6: 'µs'})[exponent]}"
