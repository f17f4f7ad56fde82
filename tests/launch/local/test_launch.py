"""`ellav launch local`: what is refused, what a dry run prints, and real runs of two processes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ellav_jax.training.checkpoint import find_checkpoint
from ellav_jax.training.metrics import read_metrics
from launch import cli
from launch.local import launch as launch_local

ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(experiments, prepared_bundled, tmp_path):
    """Arguments of a job that could run."""
    return [f"{experiments}:gar", "--processes", "2", "--data", prepared_bundled, "--workdir", tmp_path / "w"]


def _with(job, option, value):
    """The arguments with another value."""
    index = job.index(option) + 1
    return [*job[:index], value, *job[index + 1 :]]


def test_a_dry_run_prints_the_commands_and_does_nothing(job, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    more = ["--env", "NAME=a b", "--devices-per-process", "1", "--train.steps", "7", "--dry-run"]
    launch_local.main([str(argument) for argument in [*job, *more]])
    said = capsys.readouterr()
    lines = [shlex.split(line) for line in said.out.splitlines()]
    assert len(lines) == 2
    for rank, line in enumerate(lines):
        assert line[0] == "NAME=a b"
        assert line[1].startswith("JAX_COORDINATOR_BIND_ADDRESS=127.0.0.1:")
        assert line[2:7] == ["JAX_NUM_CPU_DEVICES=1", sys.executable, "-m", "launch.cli", "train"]
        command = " ".join(line[7:])
        data, workdir = map(str, (job[4], job[6]))
        assert command.startswith(
            f"{job[0]} --data {data} --workdir {workdir} --train.steps 7 --coordinator 127.0.0.1:"
        )
        assert command.endswith(f"--num-processes 2 --process-id {rank}")
    assert len({re.search(r"127\.0\.0\.1:\d+", line).group() for line in said.out.splitlines()}) == 1
    assert not (tmp_path / "w").exists()


def test_one_process_needs_no_others(job, capsys):
    launch_local.main([str(argument) for argument in [*_with(job, "--processes", 1), "--dry-run"]])
    [line] = capsys.readouterr().out.splitlines()
    assert "--coordinator" not in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: ["librispech.gar", *job[1:]], "near it: librispeech.gar"),
        (lambda job: _with(job, "--processes", 0), "--processes 0: expected 1 or more"),
        (lambda job: _with(job, "--processes", 3), "does not divide over 3 devices"),
        (lambda job: _with(job, "--data", "nowhere"), "nowhere: no such data set"),
        (lambda job: _with(job, "--workdir", __file__), "a file is in the way"),
        (lambda job: _with(job, "--workdir", "/proc/w"), "--workdir /proc/w: it can't be written"),
        (lambda job: [*job, "--mesh.fsdp", "3"], "does not fit 2 devices"),
        (lambda job: [*job, "--mesh.data", "1", "--mesh.tensor", "2", "--devices-per-process", "2"], "does not fit 4"),
        (lambda job: [*job, "--devices-per-process", "0"], "--devices-per-process 0: expected 1 or more"),
        (lambda job: [*job, "--process-id", "1"], "set by ellav launch"),
        (lambda job: [*job, "--env", "HF_TOKEN=sesame"], "looks like a secret"),
        (lambda job: [*job, "--name", "Mine"], "--name Mine"),
        (lambda job: [*job[:3], *job[5:]], "no data set; give --data"),
        (lambda job: job[1:], "wants the experiment first"),
    ],
)
def test_bad_input_is_one_line_before_anything_begins(change, said, job, refused, tmp_path):
    assert said in refused("launch", "local", *change(job))
    assert not (tmp_path / "w").exists()


def test_a_machine_with_too_few_gpus_is_told_at_once(job, refused, monkeypatch):
    monkeypatch.setattr(launch_local, "visible_gpus", lambda environment: ["0"])
    assert "there are 1 GPUs" in refused("launch", "local", *job)


def test_each_process_sees_its_own_gpus(job, capsys, monkeypatch):
    monkeypatch.setattr(launch_local, "visible_gpus", lambda environment: ["4", "5"])
    launch_local.main([str(argument) for argument in [*job, "--dry-run"]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["CUDA_VISIBLE_DEVICES=4", "CUDA_VISIBLE_DEVICES=5"]
    assert "JAX_NUM_CPU_DEVICES" not in "".join(lines)


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit) as ended:
        launch_local.main(["--help"])
    assert ended.value.code == 0
    assert "--devices-per-process" in capsys.readouterr().out


def test_what_starts_the_processes_imports_nothing_heavy():
    heavy = {"jax", "numpy", "flax", "orbax"}
    code = f"import sys, launch.local.launch; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def _start(*arguments, **options):
    """The command in a process group of its own, as at a terminal."""
    command = [sys.executable, "-m", "launch.cli", "launch", "local", *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, process_group=0, **options)


@pytest.fixture
def launch():
    """Starts the command; what still runs at the end is killed."""
    started = []

    def start(*arguments):
        started.append(_start(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _entries(workdir):
    path = workdir / "metrics.jsonl"
    return read_metrics(path, "train") if path.exists() else []


def _wait_for_steps(workdir, process, number):
    until = time.monotonic() + 120
    while len(_entries(workdir)) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def _ranks(process):
    """Process ids of the ranks, in their order."""
    found = {}
    said = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True)
    for line in said.stdout.splitlines():
        if rank := re.search(r"--process-id (\d+)", line):
            found[int(rank[1])] = int(line.split()[0])
    return [found[rank] for rank in sorted(found)]


LONG = ("--train.steps", 100_000, "--train.optimizer.schedule", "wsd", "--train.optimizer.warmup-steps", 4)


@pytest.mark.slow
def test_two_processes_lose_what_one_does(job, launch, tmp_path, ellav):
    process = launch(*job, "--train.steps", 12)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "2 processes)" in out
    assert all(re.match(r"\[[01]\] ", line) for line in out.splitlines())
    assert len(re.findall(r"^\[0\] step ", out, re.MULTILINE)) >= 10  # process 0 alone speaks
    assert "[1] step " not in out
    assert "2 processes on cpu-2; described in" in err
    alone = ellav("train", job[0], "--data", job[4], "--workdir", tmp_path / "alone", "--train.steps", "12")
    assert alone.returncode == 0, alone.stderr
    found, expected = ({entry["step"]: entry["loss"] for entry in _entries(tmp_path / name)} for name in ("w", "alone"))
    assert len(found) >= 10
    assert found == pytest.approx(expected, rel=2e-5)
    described = json.loads((tmp_path / "w" / "launches" / "small-gar.json").read_text())
    assert (described["target"], described["hardware"], described["processes"]) == ("local", "cpu-2", 2)
    assert described["overrides"] == ["--train.steps", "12"]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_job_and_the_same_command_resumes(job, launch, tmp_path):
    workdir, arguments = tmp_path / "w", [*job, *LONG, "--train.checkpoint-every", 5]
    process = launch(*arguments)
    _wait_for_steps(workdir, process, 12)
    ranks = _ranks(process)
    assert len(ranks) == 2
    start = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert process.returncode == 137
    assert "rank 1 was killed by signal 9 (SIGKILL); stopping the others" in err
    assert re.search(
        r"^ellav: error: rank 1 was killed by signal 9 .*the same command continues from the last checkpoint$",
        err,
        re.MULTILINE,
    )
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    last = int(find_checkpoint(workdir).name)
    process = launch(*arguments)
    before = len(_entries(workdir))
    _wait_for_steps(workdir, process, before + 3)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert f"[0] resumed at step {last}" in out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_with_a_checkpoint(job, launch, tmp_path, number):
    workdir = tmp_path / "w"
    process = launch(*job, *LONG, "--train.checkpoint-every", 100_000)
    _wait_for_steps(workdir, process, 3)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"[0] stopped at step {find_checkpoint(workdir).name}, checkpoint saved" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_ctrl_c_while_the_processes_start_leaves_nobody(job, launch, tmp_path):
    process = launch(*job, *LONG)
    while not (tmp_path / "w" / "launches").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    ranks = _ranks(process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_a_checkpoint_and_no_process(job, launch, tmp_path):
    workdir = tmp_path / "w"
    process = launch(*job, *LONG, "--train.checkpoint-every", 100_000)
    _wait_for_steps(workdir, process, 3)
    ranks = _ranks(process)
    process.kill()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert find_checkpoint(workdir)


@pytest.mark.slow
def test_bad_input_that_the_processes_find_is_told_once(job, launch, tmp_path):
    workdir = tmp_path / "w"
    first = launch(*job)
    assert first.communicate(timeout=300) and first.returncode == 0
    again = launch(*job, "--layout.order", "paper")
    _, err = again.communicate(timeout=300)
    assert again.returncode == 2
    errors = [line for line in err.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert errors[0].startswith(f"ellav: error: {workdir} holds another run (layout.order")
    assert "Traceback" not in err


def test_the_target_is_one_of_ellav_launch(capsys):
    assert cli.main(["launch", "--help"]) == 0
    assert "local" in capsys.readouterr().out
