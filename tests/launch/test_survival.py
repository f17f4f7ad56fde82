"""Runs of real processes: the same on every mesh, and unharmed by kills, signals and other machines."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from ellav_jax.training.checkpoint import find_checkpoint
from ellav_jax.training.metrics import read_metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

EXPERIMENT = """
from configs.experiment import Experiment
from data_pipelines.loader import DataConfig
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.run import TrainConfig


def gar():
    size = TransformerConfig.llama(
        num_layers=2, num_heads=2, width=32, ff_width=48, dropout=0.1, dtype="float32", remat="none"
    )
    train = TrainConfig(
        steps=20,
        log_every=1,
        evaluate_every=1000,
        checkpoint_every=3,
        optimizer=OptimizerConfig(peak_lr=5e-3, warmup_steps=4),
    )
    return Experiment(LayoutConfig(), GarConfig(size), DataConfig(row_length=512, batch_rows=8), train)
"""


def _start(arguments: Sequence[str | Path], processes: int = 1, devices: int = 1) -> list[subprocess.Popen]:
    """Starts the processes of one `ellav train`, each with so many virtual CPU devices; output is captured, as text."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(ROOT),
    }
    group = []
    if processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        group = ["--coordinator", address, "--num-processes", str(processes)]
    command = [sys.executable, "-m", "launch.cli", "train", *map(str, arguments), *group]
    return [
        subprocess.Popen(
            command + (["--process-id", str(index)] if group else []),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]


@contextlib.contextmanager
def _started(arguments: Sequence[str | Path], processes: int = 1, devices: int = 1) -> Iterator[list[subprocess.Popen]]:
    """The same, and none of them is left behind."""
    running = _start(arguments, processes, devices)
    try:
        yield running
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _run(arguments: Sequence[str | Path], processes: int = 1, devices: int = 1) -> str:
    """Runs them to their end and returns what process 0 said. All must succeed."""
    with _started(arguments, processes, devices) as running:
        said = [process.communicate(timeout=600)[0] for process in running]
        assert [process.returncode for process in running] == [0] * processes, "\n".join(said)
        return said[0]


@pytest.fixture(scope="module")
def command(tmp_path_factory, prepared_bundled):
    """`command(workdir, …)`: arguments of a small run with dropout on the bundled speech."""
    path = tmp_path_factory.mktemp("experiment") / "small.py"
    path.write_text(EXPERIMENT)
    return lambda workdir, *more: [f"{path}:gar", "--data", prepared_bundled, "--workdir", workdir, *map(str, more)]


def _losses(workdir):
    return {entry["step"]: entry["loss"] for entry in read_metrics(workdir / "metrics.jsonl", "train")}


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    """Work directory of 20 steps on one device."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "w"
    _run(command(workdir))
    return workdir


def _assert_close(workdir, undisturbed, least=19):
    found, expected = _losses(workdir), _losses(undisturbed)
    assert len(found) >= least
    assert expected[20] < expected[2] - 1  # it does learn
    for step, loss in found.items():
        if step in expected:  # the first step after a start is the compilation's, and not logged
            assert loss == pytest.approx(expected[step], rel=2e-5), step


@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 8, 1), (2, 2, 2)], ids=str)
def test_eight_devices_lose_what_one_does(command, undisturbed, tmp_path, mesh):
    sizes = [f"--mesh.{axis}={size}" for axis, size in zip(("data", "fsdp", "tensor"), mesh, strict=True)]
    said = _run(command(tmp_path / "w", *sizes), devices=8)
    assert "8 × cpu" in said
    _assert_close(tmp_path / "w", undisturbed)


@pytest.mark.parametrize("count, devices, mesh", [(2, 1, ()), (4, 1, ("--mesh.data=1", "--mesh.fsdp=4")), (2, 2, ())])
def test_several_processes_lose_what_one_does(command, undisturbed, tmp_path, count, devices, mesh):
    said = _run(command(tmp_path / "w", *mesh), processes=count, devices=devices)
    assert f"{count} processes" in said
    _assert_close(tmp_path / "w", undisturbed)
    entries = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    assert len([entry for entry in entries if entry["split"] == "train"]) == 19  # process 0 alone writes


def test_a_run_goes_on_with_other_processes_and_another_mesh(command, undisturbed, tmp_path):
    workdir = tmp_path / "w"
    _run(command(workdir, "--train.steps=7"))
    said = _run(command(workdir, "--train.steps=13"), processes=2)
    assert "resumed at step 7, row 56" in said
    said = _run(command(workdir, "--mesh.data=2", "--mesh.fsdp=4"), devices=8)
    assert "resumed at step 13, row 104" in said
    _assert_close(workdir, undisturbed, least=16)


def test_a_run_killed_at_random_ten_times_is_bit_for_bit_the_undisturbed_one(command, tmp_path):
    workdir, dice = tmp_path / "killed", random.Random(0)
    for _ in range(10):
        with _started(command(workdir, "--train.steps=1000000")) as (process,):
            # Anywhere between the first import and the steps; most often among the steps.
            entries = dice.randint(0, 3)
            before = len(_entries(workdir))
            while len(_entries(workdir)) < before + entries:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.01)
            time.sleep(dice.random() * (0.2 if entries else 5.0))
            assert process.poll() is None, process.communicate()[0]
            process.kill()
    last = int(find_checkpoint(workdir).name) + 7
    assert "resumed at step" in _run(command(workdir, f"--train.steps={last}"))
    undisturbed = tmp_path / "undisturbed"
    _run(command(undisturbed, f"--train.steps={last}"))
    found, expected = _losses(workdir), _losses(undisturbed)
    compared = sorted(found.keys() & expected.keys())
    assert len(compared) >= 10
    assert [found[step] for step in compared] == [expected[step] for step in compared]
    _assert_same_arrays(find_checkpoint(workdir), find_checkpoint(undisturbed))


def _entries(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _assert_same_arrays(one, other):
    arrays = [ocp.load_checkpointables(path, {"params": None, "optimizer": None}) for path in (one, other)]
    leaves = [jax.tree.leaves_with_path(found) for found in arrays]
    assert len(leaves[0]) == len(leaves[1]) > 20
    for (path, a), (_, b) in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_of_two_processes_ends_both_at_one_step_with_a_checkpoint(
    command, undisturbed, tmp_path, number
):
    workdir = tmp_path / "w"
    long = command(workdir, "--train.steps=100000", "--train.checkpoint-every=100000", "--train.optimizer.schedule=wsd")
    with _started(long, processes=2) as running:
        while len(_entries(workdir)) < 3:
            assert all(process.poll() is None for process in running)
            time.sleep(0.05)
        running[1].send_signal(number)
        said = [process.communicate(timeout=120)[0] for process in running]
        assert [process.returncode for process in running] == [130, 130], "\n".join(said)
    assert "checkpoint saved; the same command continues" in said[0]
    assert f"stopped at step {find_checkpoint(workdir).name}" in said[0]
