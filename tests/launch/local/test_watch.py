"""Processes watched as one job, with small programs in their place."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.local import watch as local_watch
from launch.local.watch import Outcome, Watch
from launch.processes.local_processes import LocalProcesses
from launch.processes.rank_log import RankLog

ROOT = Path(__file__).parents[3]
BEGIN = "import os, signal, sys, time\nsys.stdin.readline()\n"
SLEEP = "time.sleep(60)"
FAIL = "raise ValueError('boom')"
# As a rank of a run does: on SIGTERM it saves and leaves.
SAVE = """
def save(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
"""


def _command(program):
    return [sys.executable, "-S", "-c", BEGIN + program]


def _watch(*programs):
    """→ outcome, standard output, standard error, seconds."""
    out, err = io.StringIO(), io.StringIO()
    log, start = RankLog(out, err), time.monotonic()
    with LocalProcesses([_command(program) for program in programs], [os.environ] * len(programs)) as processes:
        processes.begin()
        outcome = Watch(processes, log).to_end()
    return outcome, out.getvalue(), err.getvalue(), time.monotonic() - start


def test_all_that_is_said_is_in_the_log_behind_its_rank():
    count = 2000
    program = f"for i in range({count}): print('{{}}', i, '.' * (i % 300))\nsys.stdout.write('no end')"
    outcome, out, err, _ = _watch(*(program.format(rank) for rank in range(3)))
    assert outcome == Outcome(None, False)
    lines = out.splitlines()
    assert len(lines) == 3 * (count + 1)
    for rank in range(3):
        expected = [f"[{rank}] {rank} {i} {'.' * (i % 300)}".rstrip() for i in range(count)]
        assert [line for line in lines if line.startswith(f"[{rank}]")] == [*expected, f"[{rank}] no end"]
    assert err == ""


def test_nobody_begins_before_the_word_and_leaving_ends_those_that_wait(tmp_path):
    made = tmp_path / "made"
    program = f"open({str(made)!r}, 'w')"
    with LocalProcesses([_command(program)] * 2, [os.environ] * 2) as processes:
        time.sleep(0.3)
    assert not made.exists()
    assert processes.killed


@pytest.mark.parametrize(
    ("program", "status", "exit_status", "how"),
    [
        ("sys.exit(3)", 3, 3, "rank 1 ended with status 3"),
        ("os.kill(os.getpid(), 9)", -9, 137, "rank 1 was killed by signal 9 (SIGKILL)"),
        ("os.abort()", -6, 134, "rank 1 was killed by signal 6 (SIGABRT)"),
    ],
)
def test_one_that_fails_ends_the_others_and_is_named(program, status, exit_status, how):
    outcome, _, err, seconds = _watch(SLEEP, f"time.sleep(0.2)\n{program}", SLEEP)
    assert (outcome.failure.rank, outcome.failure.status) == (1, status)
    assert (outcome.failure.exit_status, outcome.failure.how) == (exit_status, how)
    assert not outcome.interrupted
    assert f"ellav launch: {how}; stopping the others\n" in err
    assert seconds < 5


def test_the_first_traceback_stands_on_top_whoever_else_fails_of_it():
    fails = "print('before', file=sys.stderr)\ntime.sleep(0.5)\nraise ValueError('boom')"
    at_signal = "def stop(*_): raise OSError('connection lost')\nsignal.signal(signal.SIGTERM, stop)\ntime.sleep(60)"
    outcome, _, err, _ = _watch(at_signal, at_signal, fails)
    assert (outcome.failure.rank, outcome.failure.last, outcome.failure.refused) == (2, "ValueError: boom", None)
    lines = err.splitlines()
    assert lines[:2] == ["[2] before", "[2] Traceback (most recent call last):"]
    top = lines.index("[2] ValueError: boom")
    assert all(line.startswith("[2]") for line in lines[: top + 1])
    assert lines[top + 1] == "ellav launch: rank 2 ended with status 1; stopping the others"
    for rank in (0, 1):
        assert f"[{rank}] OSError: connection lost" in lines[top:]


def test_bad_input_that_all_refuse_is_not_told_in_copies():
    program = "print('ellav: error: no such data set', file=sys.stderr)\nsys.exit(2)"
    outcome, out, err, _ = _watch(program, program, program)
    assert outcome.failure.exit_status == 2
    assert outcome.failure.refused == "no such data set"
    assert (out, err) == ("", "")


def test_one_that_does_not_listen_is_killed(monkeypatch):
    monkeypatch.setattr(local_watch, "FAILURE_SECONDS", 0.5)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n" + SLEEP
    outcome, _, _, seconds = _watch(deaf, f"time.sleep(0.5)\n{FAIL}")
    assert outcome.failure.rank == 1
    assert seconds < 5


def test_an_error_that_is_only_reported_does_not_wait_for_the_end(monkeypatch):
    monkeypatch.setattr(local_watch, "_HOLD_SECONDS", 0.2)
    program = (
        "print('Traceback (most recent call last):\\nValueError: mended', file=sys.stderr, flush=True)\n"
        "time.sleep(1.5)\nprint('on', file=sys.stderr)"
    )
    outcome, _, err, _ = _watch(program, "time.sleep(0.7)\nprint('later', file=sys.stderr)")
    assert outcome.failure is None
    assert [line for line in err.splitlines() if "]" in line][1] == "[0] ValueError: mended"
    assert err.index("mended") < err.index("later") < err.index("on\n")


def test_what_a_dead_process_left_behind_does_not_hold_the_job_up():
    orphan = "import subprocess\nsubprocess.Popen(['sleep', '60'])\nprint('left', flush=True)\nos.kill(os.getpid(), 9)"
    outcome, out, _, seconds = _watch(orphan, SLEEP)
    assert (outcome.failure.rank, out) == (0, "[0] left\n")
    assert seconds < 5


LAUNCHER = """
import dataclasses, json, os, sys
from launch.processes.local_processes import LocalProcesses
from launch.local.watch import Watch
from launch.processes.rank_log import RankLog
programs = json.loads(sys.argv[1])
with LocalProcesses([[sys.executable, "-S", "-c", one] for one in programs], [os.environ] * len(programs)) as processes:
    processes.begin()
    outcome = Watch(processes, RankLog(sys.stdout, sys.stderr)).to_end()
print("interrupted" if outcome.interrupted else "ended", outcome.failure, flush=True)
"""


@pytest.fixture
def launcher():
    """Starts a launcher of these programs in a process group of its own, and waits until each has said `ready`."""
    started = []

    def start(*programs):
        code = [sys.executable, "-c", LAUNCHER, json.dumps([BEGIN + program for program in programs])]
        process = subprocess.Popen(
            code, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        started.append(process)
        said = [process.stdout.readline().strip() for _ in programs]
        assert sorted(said) == [f"[{rank}] ready" for rank in range(len(programs))]
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_reaches_each_once_and_all_leave(launcher, number):
    count = "n = 0\n" + SAVE.replace(
        "def save(*_):",
        "def save(*_):\n    global n\n    n += 1\n    if n > 1: print('twice', flush=True)\n    time.sleep(0.3)",
    ).replace("    sys.exit(130)", "    time.sleep(0.3)\n    sys.exit(130)")
    process = launcher(*[count + SLEEP] * 2)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert sorted(out.splitlines()) == ["[0] saved", "[1] saved", "interrupted None"]
    assert err.startswith(f"ellav launch: {number.name}: every rank was asked for a checkpoint")


def test_a_second_signal_kills(launcher):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\n" + SLEEP
    process = launcher(deaf, deaf)
    process.send_signal(signal.SIGINT)
    time.sleep(local_watch._AGAIN_SECONDS + 0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "interrupted None\n"


def test_an_error_while_stopping_is_a_failure(launcher):
    slow = SAVE.replace("    sys.exit(130)", "    time.sleep(1)\n    sys.exit(130)")
    process = launcher(SAVE.replace("sys.exit(130)", "raise OSError('disk full')") + SLEEP, slow + SLEEP)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert "status=1" in out.splitlines()[-1]
    assert err.index("[0] OSError: disk full") < err.index("rank 0 ended with status 1; stopping the others")


def test_nobody_stays_behind_a_launcher_that_is_killed(launcher):
    watching = "import threading\nprint('ready', os.getpid(), flush=True)\n"
    watching = SAVE.replace("print('ready'", "print('ready'") + "sys.stdin.read()\nos._exit(0)"
    process = launcher(watching, watching)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    assert len(children.split()) == 2
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children.split()):
        assert time.monotonic() < until
        time.sleep(0.05)
