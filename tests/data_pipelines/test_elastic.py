"""Real processes: 1 → 2 → 4 → 2 → 1, each taking over where the others stopped, see the batches that one alone sees."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.synthetic import write_synthetic

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elastic")
    for seed, (name, utterances) in enumerate({"a": 30, "b": 20}.items()):
        write_synthetic(folder / name, utterances, seed, shards=2)
    return folder


def _run(folder, processes, tensor, next_row, batches):
    """→ the batches and the state that the processes print, which must be the same for all."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("print_batches.py")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    environment.pop("XLA_FLAGS", None)
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = []
    try:
        for process in range(processes):
            arguments = (process, processes, port, tensor, next_row, batches, folder)
            started.append(subprocess.Popen([sys.executable, script, *map(str, arguments)], **options))
        outputs = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, error) in zip(started, outputs, strict=True):
        assert process.returncode == 0, error
    # The network library prints lines of its own.
    lines = {tuple(line for line in out.splitlines() if line.startswith(("batch ", "next_row "))) for out, _ in outputs}
    assert len(lines) == 1
    *found, state = lines.pop()
    return found, int(state.removeprefix("next_row "))


@pytest.mark.slow
def test_batches_stay_the_same_over_any_number_of_processes(folder):
    expected, end = _run(folder, 1, 1, next_row=0, batches=6)
    assert len(set(expected)) == 6
    assert end == 6 * 8
    found, next_row = expected[:1], 8
    # The last but one splits a model, and not the rows, over its two processes.
    for processes, tensor, batches in ((2, 1, 2), (4, 1, 1), (2, 2, 1), (1, 1, 1)):
        more, next_row = _run(folder, processes, tensor, next_row, batches)
        found += more
    assert found == expected
    assert next_row == end
