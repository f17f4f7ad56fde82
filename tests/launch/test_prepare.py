"""`ellav prepare` as a process: what a person, a signal or a full disk does to it."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.records import Dataset
from launch import cli

ROOT = Path(__file__).parents[2]


# Groups of 4 utterances, so that there is something to interrupt in a small data set.
OPTIONS = ("--limit", "12", "--shards", "2", "--group-size", "4")


def _start(out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "launch.cli", "prepare", "bundled", str(out), *OPTIONS, *more]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A session of its own: signals sent to its group, as a terminal does, reach its workers and not us.
    return subprocess.Popen(command, env=environment, start_new_session=True, **streams)


def _chunks(out: Path) -> list[Path]:
    return sorted((out / ".prepare").glob("chunks-*/[0-9]*"))


def _wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _group(process: subprocess.Popen) -> list[int]:
    """Process ids of the living members of the process's group (zombies have ended)."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(group) == process.pid and state != "Z":
            members.append(int(path.parent.name))
    return members


def _wait_until_group_is_gone(process: subprocess.Popen) -> None:
    _wait_for(lambda: _group(process) == [], seconds=10)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """What an undisturbed run makes, and its output beside it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    start = time.monotonic()
    process = _start(out)
    stdout, stderr = process.communicate(timeout=300)
    (out.parent / "seconds").write_text(str(time.monotonic() - start))
    assert process.returncode == 0, stderr
    (out.parent / "stdout").write_text(stdout)
    (out.parent / "stderr").write_text(stderr)
    return out


def test_a_run_reports_counts_speed_and_progress(whole):
    stdout = (whole.parent / "stdout").read_text()
    assert f"{whole}: found 24 utterances = 24 written + 0 quarantined" in stdout
    assert "x real time" in stdout
    assert f"ellav inspect {whole}" in stdout
    # Not a terminal: plain lines.
    stderr = (whole.parent / "stderr").read_text()
    assert "preparing bundled: 24/24 utterances\n" in stderr
    assert "\x1b" not in stderr
    assert {split: len(Dataset.open(whole).ids(split)) for split in ("train", "test")} == {"train": 12, "test": 12}


def test_a_second_run_says_that_nothing_is_to_do(whole, ellav):
    before = _files(whole)
    done = ellav("prepare", "bundled", whole, *OPTIONS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{whole}: complete already, with these settings; nothing to do\n"
    assert _files(whole) == before


def test_bad_input_is_one_line_and_status_2(tmp_path, ellav):
    (tmp_path / "file").write_text("x")
    for arguments, message in (
        (("libri", tmp_path / "out"), "unknown corpus 'libri'; the corpora are: bundled"),
        (("bundled", tmp_path / "file"), f"{tmp_path / 'file'}: exists and is not a folder"),
        (("bundled", "gs://bucket/out"), "gs:/bucket/out: data sets are written to folders; mount the bucket"),
    ):
        done = ellav("prepare", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"ellav: error: {message}")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("3/2",), "--part 3/2: expected I/N, the I-th of N parts"),
        (("1/2", "--strict"), "--strict judges the whole data set"),
        (("1/2", "--engine", "beam"), "--part 1/2: neither Beam nor"),
        (("1/2", "--write-mfa", "mfa"), "--part 1/2: neither Beam nor"),
    ],
)
def test_what_makes_no_part_is_refused(tmp_path, capsys, options, message):
    assert cli.main(["prepare", "bundled", str(tmp_path / "out"), "--part", *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_what_mfa_needs_is_written_and_the_printed_command_keeps_the_options(tmp_path, ellav, small_corpus):
    for one in small_corpus.utterances[:3]:
        path = tmp_path / "mine" / one.speaker / f"{one.id}.opus"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.audio.path.read_bytes())
        path.with_suffix(".txt").write_text(one.text)
    arguments = (f"folder:{tmp_path / 'mine'}", tmp_path / "out", "--test-share", "0.5")
    done = ellav("prepare", *arguments, "--write_mfa", tmp_path / "mfa", "--language=en-gb")
    assert done.returncode == 0, done.stderr
    assert "3 utterances = 3 written + 0 left out" in done.stdout
    assert len(list((tmp_path / "mfa" / "corpus").rglob("*.wav"))) == 3
    dictionary = f"--dictionary {tmp_path / 'mfa' / 'dictionary.dict'} --language en-gb"
    last = " ".join(map(str, ("ellav", "prepare", *arguments, "--aligner", f"textgrid:{tmp_path / 'mfa' / 'aligned'}")))
    assert done.stdout.splitlines()[-1] == f"{last} {dictionary}"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_ends_everything_within_seconds_and_loses_nothing(tmp_path, whole):
    out = tmp_path / "out"
    process = _start(out)
    _wait_for(lambda: _chunks(out))
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1] == "ellav: interrupted; the same command continues where this one stopped"
    assert "Traceback" not in stderr
    _wait_until_group_is_gone(process)
    done = {path.name: path.stat().st_mtime_ns for path in _chunks(out)}
    process = _start(out)
    _wait_for(lambda: len(_chunks(out)) > len(done) or process.poll() is not None)
    for path in _chunks(out):
        assert done.get(path.name) in (None, path.stat().st_mtime_ns)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert f"continued after {4 * len(done)} utterances of an earlier run" in stdout
    assert _files(out) == _files(whole)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path, whole):
    out = tmp_path / "out"
    process = _start(out)
    _wait_for(lambda: _chunks(out))
    assert len(_group(process)) > 1
    process.kill()
    process.wait()
    _wait_until_group_is_gone(process)


@pytest.mark.slow
def test_parts_at_once_one_of_them_killed_and_repeated_make_the_data_set_of_one_command(tmp_path, whole):
    out = tmp_path / "out"
    parts = {number: _start(out, "--workers", "1", "--part", f"{number}/3") for number in (1, 2, 3)}
    _wait_for(lambda: _chunks(out))
    parts[2].kill()
    parts[2].communicate()
    _wait_until_group_is_gone(parts[2])
    parts[2] = _start(out, "--workers", "2", "--part", "2/3")
    for number, process in parts.items():
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        assert f"{out}: part {number}/3 is done: found 8 utterances = 8 usable + 0 quarantined" in stdout
    assert len(_chunks(out)) == 6
    process = _start(out)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "continued after 24 utterances of an earlier run" in stdout
    assert _files(out) == _files(whole)


class SmallDisk:
    """A disk of 48 kB to write below `folder`, until it grows.

    A tmpfs where mounting is allowed (root outside a strict container), else a limit on the size of files, which the
    kernel reports on writing in the same way.
    """

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder = folder
        mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", folder]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def limit(self, writer: subprocess.Popen) -> None:
        if not self.mounted:
            # Not before the workers have made their own temporary files.
            _wait_for(lambda: _chunks(self.folder / "out"))
            for process in _group(writer):
                resource.prlimit(process, resource.RLIMIT_FSIZE, (3000, 3000))

    def grow(self) -> None:
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", self.folder], check=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def small_disk(tmp_path):
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_continues(small_disk, whole):
    out = small_disk.folder / "out"
    process = _start(out)
    small_disk.limit(process)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith(f"ellav: error: no space left while writing {out}")
    assert "make room and give the same command again" in stderr
    assert "Traceback" not in stderr
    _wait_until_group_is_gone(process)
    assert _chunks(out)
    small_disk.grow()
    process = _start(out)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "of an earlier run" in stdout
    assert _files(out) == _files(whole)


@pytest.mark.slow
def test_kills_and_interruptions_at_random_moments_never_change_the_result(tmp_path, whole):
    moments = random.Random(20240117)
    out = tmp_path / "out"
    seconds = float((whole.parent / "seconds").read_text())
    ends, finished = {"parent killed": 0, "all killed": 0, "ctrl-c": 0}, 0
    while sum(ends.values()) < 24 or not finished:
        process = _start(out)
        try:
            process.communicate(timeout=seconds * moments.uniform(0.1, 1.1))
        except subprocess.TimeoutExpired:
            end = moments.choice(list(ends))
            ends[end] += 1
            if end == "parent killed":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL if end == "all killed" else signal.SIGINT)
            _, stderr = process.communicate()
            if end == "ctrl-c" and not (out / "dataset.json").exists():
                assert process.returncode == 130
                assert "Traceback" not in stderr
        _wait_until_group_is_gone(process)
        if (out / "dataset.json").exists():
            # Whatever was left lying about by a run that was killed at its very end goes with the next one.
            process = _start(out)
            process.communicate(timeout=300)
            assert process.returncode == 0
            assert _files(out) == _files(whole)
            finished += 1
            shutil.rmtree(out)
