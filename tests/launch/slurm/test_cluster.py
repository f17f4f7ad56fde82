"""Jobs of `ellav launch slurm` on a real Slurm of one node: two tasks that meet, are preempted, stopped, and go on."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.records import Dataset
from ellav_jax.training.checkpoint import find_checkpoint
from ellav_jax.training.metrics import read_metrics
from tests.launch.slurm.cluster import running_cluster, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

ROOT = Path(__file__).parents[3]
STEPS = 300


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def launch(cluster, experiments, prepared_bundled, tmp_path_factory):
    """`launch(workdir, …)`: the finished launch of a small GAR with two tasks."""
    folder = tmp_path_factory.mktemp("launches")

    def run(workdir, *more):
        places = ["--data", prepared_bundled, "--workdir", workdir, "--out", folder, "--name", workdir.name]
        command = ["slurm", f"{experiments}:gar", *places, "--tasks-per-node", 2, *more]
        return _ellav(cluster, *command)

    return run


def _ellav(cluster, *arguments):
    environment = os.environ | cluster.environment | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "launch.cli", "launch", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd="/")


def _submitted(done):
    """The number of the job that a launch without --follow submitted."""
    assert done.returncode == 0, done.stderr
    return re.search(r"^job (\d+), described in", done.stderr, re.MULTILINE)[1]


def _wait_for_steps(workdir, number):
    """Waits until the run has logged so many steps."""
    path = workdir / "metrics.jsonl"
    _wait_until(lambda: path.exists() and path.read_text().count('"train"') >= number, f"{number} steps")


def _wait_until(there, what, seconds=150):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"not {what}"
        time.sleep(0.05)


def _losses(workdir):
    return {entry["step"]: entry["loss"] for entry in read_metrics(workdir / "metrics.jsonl", "train")}


LONG = ("--no-follow", "--train.steps", 1_000_000, "--train.checkpoint-every", 1_000_000)


def test_a_preempted_run_of_two_tasks_ends_with_the_losses_of_an_undisturbed_one(cluster, launch, tmp_path):
    size = ("--train.steps", STEPS, "--train.checkpoint-every", 20)
    followed = launch(tmp_path / "undisturbed", *size)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "2 processes" in followed.stdout
    assert f"step {STEPS}/{STEPS}" in followed.stdout
    workdir = tmp_path / "preempted"
    job = _submitted(launch(workdir, "--no-follow", *size))
    _wait_for_steps(workdir, STEPS // 4)
    cluster.ask("scontrol", "requeue", job)
    fields = cluster.wait_for(job, "COMPLETED", "FAILED")
    assert (fields["JobState"], fields["Restarts"]) == ("COMPLETED", "1")
    log = Path(fields["StdOut"]).read_text()
    [stopped] = re.findall(r"stopped at step (\d+), checkpoint saved", log)
    assert STEPS // 4 <= int(stopped) < STEPS
    assert re.findall(r"resumed at step (\d+)", log) == [stopped]
    found, expected = _losses(workdir), _losses(tmp_path / "undisturbed")
    assert expected[STEPS] < expected[2] - 0.5  # it does learn
    # Not logged: the first step after a start, which is the compilation, and the last one before a stop.
    assert len(found) >= STEPS - 3
    for step in found.keys() & expected.keys():
        assert found[step] == pytest.approx(expected[step], rel=1e-6), step


def test_the_time_limit_makes_a_checkpoint_and_the_job_goes_on(cluster, launch, tmp_path):
    workdir = tmp_path / "limited"
    # The signal comes after about a minute, in which the run gets to its steps on a busy machine too.
    job = _submitted(launch(workdir, *LONG, "--time", "3", "--grace-seconds", 115))
    cluster.wait_for(job, "RUNNING")
    fields = cluster.wait_for(job, "PENDING", "COMPLETED", "FAILED", "TIMEOUT", seconds=200)
    assert fields["JobState"] == "PENDING"
    log = Path(fields["StdOut"])
    assert "the time limit is near" in log.read_text()
    stopped = int(find_checkpoint(workdir).name)
    assert cluster.wait_for(job, "RUNNING")["Restarts"] == "1"
    _wait_until(lambda: f"resumed at step {stopped}," in log.read_text(), "resumed")
    cluster.ask("scancel", job)
    assert cluster.wait_for(job, "CANCELLED")["Restarts"] == "1"


def test_a_stopped_job_saves_and_stays_out_of_the_queue(cluster, launch, tmp_path):
    workdir = tmp_path / "stopped"
    job = _submitted(launch(workdir, *LONG))
    _wait_for_steps(workdir, 3)
    cluster.ask("scancel", "--batch", "--signal=USR2", job)
    fields = cluster.wait_for(job, "FAILED", "COMPLETED", "PENDING")
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("FAILED", "130:0", "0")
    assert int(find_checkpoint(workdir).name) >= 3


def test_a_job_with_bad_input_ends_without_going_back_into_the_queue(cluster, launch, tmp_path):
    workdir = tmp_path / "taken"
    workdir.mkdir()
    (workdir / "letter.txt").write_text("not a run's")
    done = launch(workdir)
    assert done.returncode == 2
    assert "not empty and not a work directory" in done.stdout
    assert "ended over bad input" in done.stderr.splitlines()[-1]
    job = re.search(r"^job (\d+),", done.stderr, re.MULTILINE)[1]
    fields = cluster.job(job)
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("FAILED", "2:0", "0")


def test_what_slurm_refuses_is_one_line(launch, tmp_path):
    done = launch(tmp_path / "w", "--partition", "nowhere")
    assert done.returncode == 2
    assert "invalid partition" in done.stderr.splitlines()[-1]


def test_a_data_set_is_prepared_by_a_job(cluster, tmp_path):
    done = _ellav(
        cluster, "slurm", "prepare", "bundled", tmp_path / "data", "--limit", 3, "--out", tmp_path / "launches"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Dataset.open(tmp_path / "data").info["utterances"]["found"] == 6


@pytest.mark.parametrize("disturbed", [False, True], ids=["undisturbed", "a part preempted"])
def test_an_array_prepares_the_data_set_of_one_command(cluster, tmp_path, disturbed):
    corpus, options = "bundled", ("--limit", 6, "--shards", 2, "--group-size", 2, "--workers", 1)
    out = tmp_path / "data"
    launch = ("slurm", "prepare", corpus, out, *options, "--array", 2, "--cpus-per-task", 1, "--out", tmp_path / "jobs")
    done = _ellav(cluster, *launch, "--no-follow" if disturbed else "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    array, last = re.findall(r"^job (\d+),", done.stderr, re.MULTILINE)
    if disturbed:
        _wait_until(lambda: list((out / ".prepare").glob("chunks-*/*.safetensors")), "a chunk")
        cluster.ask("scontrol", "requeue", f"{array}_1")
        cluster.wait_for(f"{array}_1", "COMPLETED", "FAILED")
        assert cluster.wait_for(last, "COMPLETED", "FAILED", "CANCELLED")["JobState"] == "COMPLETED"
        assert cluster.job(f"{array}_1")["Restarts"] == "1"
    folder = tmp_path / "jobs" / "prepare-data"
    for number in (1, 2):
        assert f"part {number}/2 is done: " in (folder / f"slurm-{array}_{number}.log").read_text()
    assert "continued after 12 utterances of an earlier run" in (folder / f"slurm-{last}.log").read_text()
    command = [sys.executable, "-m", "launch.cli", "prepare", corpus, tmp_path / "whole", *map(str, options)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }


def test_where_a_part_fails_the_last_job_is_cancelled_and_the_parts_logs_are_named(cluster, tmp_path):
    launch = ("slurm", "prepare", "bundled", tmp_path / "data", "--limit", 2, "--array", 2, "--cpus-per-task", 1)
    done = _ellav(cluster, *launch, "--codec", tmp_path / "absent.safetensors", "--out", tmp_path / "jobs")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "is CANCELLED" in line
    assert "of the jobs before it" in line
    [array, _] = re.findall(r"^job (\d+),", done.stderr, re.MULTILINE)
    assert "absent.safetensors" in (tmp_path / "jobs" / "prepare-data" / f"slurm-{array}_1.log").read_text()
