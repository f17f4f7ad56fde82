"""What processes must agree on before a run begins: who differs in what, in words, and in real processes."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import jax
import pytest

from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from launch.processes.all_reduce import AllReduceTimes, time_all_reduce
from launch.processes.meeting import Meeting, Place
from launch.processes.preflight import check_software, compare, flatten, open_same, report
from launch.processes.software import software
from tests.launch.processes.meetings import free_address, gather

ROOT = Path(__file__).parents[3]
HOST = socket.gethostname()


def _name(processes: Sequence[int]) -> str:
    return " and ".join(f"#{process}" for process in processes)


def test_processes_that_agree_are_not_spoken_of():
    compare([{"jax": "0.10.2", "libtpu": None}] * 3, "install", _name)


def test_a_process_with_another_value_is_named_with_both_values_and_what_to_do():
    found = [{"jax": "0.10.2"}, {"jax": "0.10.2"}, {"jax": "0.10.1"}]
    with pytest.raises(InputError) as error:
        compare(found, "install the same", _name)
    assert str(error.value) == "#2 has jax 0.10.1, #0 has 0.10.2; install the same"


def test_processes_with_the_same_other_value_are_named_together():
    found = [{"jax": "2"}, {"jax": "1"}, {"jax": "3"}, {"jax": "1"}]
    with pytest.raises(InputError, match=r"^#1 and #3 have jax 1, #2 has jax 3, #0 has 2; install$"):
        compare(found, "install", _name)


def test_what_one_side_lacks_is_a_difference():
    with pytest.raises(InputError, match=r"^#1 has no jax, #0 has 2; #1 has libtpu 5, #0 has none; install$"):
        compare([{"jax": "2", "libtpu": None}, {"libtpu": "5"}], "install", _name)


def test_of_many_differences_the_first_are_told_and_the_others_counted():
    found = [{str(one): one for one in range(9)}, {str(one): one + 1 for one in range(9)}]
    with pytest.raises(InputError, match=r"^#1 has 0 1, #0 has 0; .*; and 5 more differences; install$"):
        compare(found, "install", _name)


def test_nested_fields_are_compared_one_by_one():
    assert flatten({"train": {"steps": 3, "loss": {"z": 0.0}}, "kind": "gar", "rows": [1, 2]}) == {
        "train.steps": "3",
        "train.loss.z": "0.0",
        "kind": '"gar"',
        "rows": "[1, 2]",
    }


def test_software_is_what_is_installed_and_a_digest_of_each_floor():
    found = software({"JAX_PLATFORMS": "cpu"})
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["jax"] == jax.__version__
    assert found["orbax-checkpoint"] == metadata.version("orbax-checkpoint")
    assert found["JAX_PLATFORMS"] == "cpu"
    digests = {key: value for key, value in found.items() if key.startswith("source code of ")}
    assert len(set(digests.values())) == 4


def test_other_source_code_is_named_by_its_floor(monkeypatch, tmp_path):
    before = software({})
    shutil.copytree(ROOT / "launch", tmp_path / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    for floor in ("ellav_jax", "data_pipelines", "configs"):
        (tmp_path / floor).symlink_to(ROOT / floor)
    monkeypatch.setattr("launch.processes.software.SOURCE", tmp_path)
    assert software({}) == before
    with open(tmp_path / "launch" / "cli.py", "a") as file:
        file.write("\n")
    after = software({})
    assert {key for key in after if after[key] != before[key]} == {"source code of launch"}


def test_the_same_software_passes_on_all_processes():
    assert gather(check_software, 3) == [None] * 3


def test_other_data_sets_are_named_by_their_place_and_copies_are_the_same(prepared_bundled, tmp_path):
    copy = shutil.copytree(prepared_bundled, tmp_path / "copy")
    found = gather(lambda meeting: open_same(meeting, [(prepared_bundled, copy)[meeting.place.process_id]]), 2)
    assert [dataset.path for (dataset,) in found] == [prepared_bundled, copy]

    info = json.loads((copy / "dataset.json").read_text())
    info["corpus"]["name"] = "another"
    (copy / "dataset.json").write_text(json.dumps(info))
    assert Dataset.open(copy).splits
    errors = gather(lambda meeting: open_same(meeting, [(prepared_bundled, copy)[meeting.place.process_id]]), 2)
    for error in errors:
        assert isinstance(error, InputError)
        assert re.match(rf"process 1 \(host {HOST}\) has data set 1 sha256 \w{{12}}, process 0 \(host", str(error))

    paths = [prepared_bundled, tmp_path / "nowhere"]
    errors = gather(lambda meeting: open_same(meeting, [paths[meeting.place.process_id]]), 2)
    for error in errors:
        assert str(error).startswith(f"process 1 (host {HOST}): {paths[1]}: no such data set")


def test_the_report_says_what_was_found_and_warns_of_a_clock_that_is_off():
    meeting = Meeting(Place("a:1", 3, 0), ["a", "a", "b"], {}, 5)
    devices = {"device kind": "TPU v5p", "device count": 4}
    times = AllReduceTimes(devices=12, latency=2.5e-5, size=64 << 20, seconds=1.2e-3)
    clocks = [(0.0, 0.0), (-2e-4, 3e-4), (5.2, 0.3)]
    lines = report(meeting, devices, clocks, times, Path("/w"), 0.84)
    # A ring of 12 sends 11/12 of 67,108,864 bytes twice, in 1.2 ms.
    assert lines[0] == (
        "preflight: 3 processes on a and b: same software, 4 × TPU v5p each; /w is shared and can be written; clocks "
        "within 5.50 s"
    )
    assert lines[1] == (
        "preflight: all-reduce over 12 devices 25.0 µs for 4 bytes, 1.20 ms for 64 MiB each (102.53 GB/s a device); "
        "all of it 0.8 s"
    )
    assert len(lines) == 2
    lines = report(meeting, devices, [(0.0, 0.0), (-80.5, 0.1), (12.0, 0.3)], None, None, 0.84)
    assert lines[1] == (
        "preflight: warning: the clock of process 1 (host a) is 80.5 s behind that of process 0 (and 1 more are off); "
        "set the machines' clocks (NTP)"
    )


def test_an_all_reduce_is_timed_and_adds_up():
    times = time_all_reduce(jax.devices())
    assert times.devices == jax.device_count()
    assert 0 < times.latency < times.seconds < 10
    assert times.size == 4 << 20


# From here on: real processes.


@contextlib.contextmanager
def _processes(commands: Sequence[Sequence[object]], options: Sequence[dict] = ()) -> Iterator[list[subprocess.Popen]]:
    """`ellav` with each of these arguments, as the processes of one run; none is left behind.

    options: "cwd" and "env" of each.
    """
    address = free_address()
    running = []
    try:
        for process, arguments in enumerate(commands):
            own = options[process] if options else {}
            group = ["--coordinator", address, "--num-processes", len(commands), "--process-id", process]
            environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)}
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "launch.cli", *map(str, [*arguments, *group])],
                    env=environment | own.get("env", {}),
                    cwd=own.get("cwd", ROOT),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        yield running
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _refused(commands: Sequence[Sequence[object]], options: Sequence[dict] = ()) -> str:
    """The one line with which all of them are refused, exit status 2."""
    with _processes(commands, options) as running:
        said = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [2] * len(running), said
    lines = {"\n".join(line for line in one.splitlines() if line.startswith("ellav: ")) for one in said}
    assert len(lines) == 1, said
    (line,) = lines
    assert "\n" not in line
    return line


@pytest.fixture
def command(experiments, prepared_bundled):
    """`command(workdir, …)`: arguments of a small training run."""
    return lambda workdir, *more: [
        *("train", f"{experiments}:gar", "--data", prepared_bundled, "--workdir", workdir, "--start-timeout", 30),
        *more,
    ]


@pytest.mark.slow
def test_a_run_of_two_processes_says_what_was_checked(command, tmp_path):
    workdir = tmp_path / "w"
    with _processes([command(workdir), command(workdir)]) as running:
        said = [process.communicate(timeout=300) for process in running]
        assert [process.returncode for process in running] == [0, 0], said
    first, second = (line for line in said[0][0].splitlines() if line.startswith("preflight: "))
    assert f"2 processes on {HOST}: same software, 1 × cpu each; {workdir} is shared and can be written" in first
    assert re.search(
        r"all-reduce over 2 devices .* for 4 bytes, .* for 4 MiB each \(.* GB/s a device\); all of it", second
    )
    assert "preflight" not in said[1][0]
    assert not (workdir / ".preflight").exists()


@pytest.mark.slow
def test_a_process_with_another_version_is_named(command, tmp_path):
    fake = tmp_path / "site" / "optax-0.0.7.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: optax\nVersion: 0.0.7\n")
    other = {"env": {"PYTHONPATH": f"{fake.parent}{os.pathsep}{ROOT}"}}
    line = _refused([command(tmp_path / "w")] * 2, [{}, other])
    assert f"process 1 (host {HOST}) has optax 0.0.7, process 0 (host {HOST}) has {metadata.version('optax')}; " in line
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_process_with_another_command_is_named(command, tmp_path):
    workdir = tmp_path / "w"
    line = _refused([command(workdir), command(workdir), command(workdir, "--train.steps", 3, "--samples.every", 2)])
    assert f"process 2 (host {HOST}) has train.steps 3, process 0 (host {HOST}) has 2; " in line
    assert f"process 2 (host {HOST}) has --samples.every 2, process 0 (host {HOST}) has 0; start all processes" in line
    assert not workdir.exists()


@pytest.mark.slow
def test_a_work_directory_that_is_not_shared_is_refused(command, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    line = _refused([command("w")] * 2, [{"cwd": tmp_path / "a"}, {"cwd": tmp_path / "b"}])
    assert f"process 1 (host {HOST}) can't see what process 0 (host {HOST}) wrote in w 15 s before" in line


@pytest.mark.slow
def test_a_work_directory_that_cannot_be_written_is_refused(command):
    line = _refused([command("/sys/kernel/ellav")] * 2)
    assert f"process 0 (host {HOST}): can't write in /sys/kernel/ellav (" in line


@pytest.mark.slow
def test_a_process_with_other_devices_is_named(command, tmp_path):
    line = _refused([command(tmp_path / "w")] * 2, [{}, {"env": {"JAX_NUM_CPU_DEVICES": "2"}}])
    assert f"process 1 (host {HOST}) has device count 2, process 0 (host {HOST}) has 1; " in line


@pytest.mark.slow
def test_a_mesh_that_does_not_fit_all_devices_is_refused_in_one_line(command, tmp_path):
    line = _refused([command(tmp_path / "w", "--mesh.data", 3)] * 2)
    assert "mesh data=3 fsdp=1 tensor=1 does not fit 2 devices (cpu-2)" in line


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_preflight_is_named_and_the_others_end(tmp_path):
    """Process 1 is killed as it is asked for its versions."""
    tree = _dying(tmp_path)
    with _processes(
        [["doctor", "--start-timeout", 30]] * 2, [{}, {"cwd": tree, "env": {"PYTHONPATH": str(tree)}}]
    ) as running:
        errors = [process.communicate(timeout=300)[1] for process in running]
        assert running[0].returncode == 1
        assert running[1].returncode == -9
    assert re.search(rf"^ellav: error: process 1 \(host {HOST}\) has ended \(versions\); ", errors[0], re.MULTILINE)


def _dying(folder: Path) -> Path:
    """A source tree whose processes are killed as they read the versions."""
    tree = folder / "tree"
    tree.mkdir()
    for floor in ("ellav_jax", "data_pipelines", "configs"):
        (tree / floor).symlink_to(ROOT / floor)
    shutil.copytree(ROOT / "launch", tree / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "launch" / "processes" / "software.py").write_text(
        "import os, signal\nPACKAGES = ()\ndef installed(name): pass\ndef software(): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    return tree


@pytest.mark.slow
def test_ellav_doctor_checks_the_same_without_an_experiment(prepared_bundled, tmp_path):
    arguments = ["doctor", "--data", prepared_bundled, "--workdir", tmp_path / "w", "--start-timeout", 30]
    with _processes([arguments] * 2) as running:
        said = [process.communicate(timeout=300) for process in running]
        assert [process.returncode for process in running] == [0, 0], said
    assert said[0][0].count("preflight: ") == 2
    assert "preflight: " not in said[1][0]
    assert list((tmp_path / "w").iterdir()) == []
