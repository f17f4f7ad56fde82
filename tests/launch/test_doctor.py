"""`ellav doctor` on one machine: what it finds, and what it calls broken."""

import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from launch import cli, doctor
from launch.doctor import BROKEN, LESS, OK, Finding, devices, disk

FOUND = {
    "platform": "cpu",
    "kind": "cpu",
    "count": 2,
    "hardware": "cpu-2",
    "memory": None,
    "error": 2e-7,
}


@pytest.fixture
def distribution(monkeypatch):
    """`distribution("jax>=99", …)`: ellav-jax asks for these; extras are a and b."""

    def ask_for(*requirements):
        monkeypatch.setattr(metadata, "requires", lambda name: list(requirements))
        monkeypatch.setattr(doctor, "_extras", lambda: ["a", "b"])

    return ask_for


def test_a_machine_on_which_all_works(ellav, prepared_bundled, tmp_path):
    done = ellav("doctor", "--data", prepared_bundled, "--workdir", tmp_path / "w")
    assert done.returncode == 0, done.stdout + done.stderr
    states = {}
    for line in done.stdout.splitlines():
        name, state, text = line.split(maxsplit=2)
        assert state in (OK, LESS)
        states.setdefault(name, []).append(text)
    assert list(states) == [
        *("python", "packages", "extras", "devices", "machine", "espeak", "aligner", "codec", "data", "disk", "launch")
    ]
    assert states["python"][0].startswith(platform.python_version())
    assert f"jax {metadata.version('jax')}, " in states["packages"][0]
    assert re.match(r"\d+ × cpu \(cpu-\d+\)$", states["devices"][0])
    assert "24 kHz" in states["codec"][0]
    assert "18 of train" in states["data"][0]
    assert not (tmp_path / "w").exists()


def test_something_broken_fails_the_command_and_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(
        doctor, "examine", lambda data, workdir: [Finding("codec", BROKEN, "x"), Finding("disk", OK, "y")]
    )
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    assert said.out == "codec       BROKEN  x\ndisk        ok      y\n"
    assert said.err == "ellav: error: broken: codec; the table says what to do\n"


def test_packages_out_of_range_or_missing_are_broken_with_the_command_that_mends_it(distribution):
    distribution("numpy<1,>=0.5", "rich>=1", "no-such-package-at-all>=3", "torch>=99; extra == 'a'")
    found = list(doctor.packages())
    assert [finding.state for finding in found] == [OK, BROKEN, BROKEN]
    assert found[1].text.startswith(f"numpy {metadata.version('numpy')}, expected ")
    assert found[1].text.endswith("; pip install 'numpy<1,>=0.5'")
    assert (
        found[2].text
        == "no-such-package-at-all is not installed, expected >=3; pip install 'no-such-package-at-all>=3'"
    )


def test_extras_that_lack_something_are_not_broken(distribution):
    distribution("rich>=1; extra == 'a'", "rich>=1; extra == 'b'", "no-such-package-at-all>=3; extra == 'b'")
    assert list(doctor.extras()) == [
        Finding("extras", OK, "a"),
        Finding("extras", LESS, "b lacks no-such-package-at-all>=3; pip install 'ellav-jax[b]'"),
    ]


def test_an_accelerator_that_jax_leaves_idle_is_broken_unless_it_was_asked_to(tmp_path):
    assert devices(FOUND, tmp_path, None) == Finding("devices", OK, "2 × cpu (cpu-2)")
    (tmp_path / "nvidiactl").touch()
    assert devices(FOUND, tmp_path, None).state == OK
    (tmp_path / "nvidia0").touch()
    found = devices(FOUND, tmp_path, None)
    assert found.state == BROKEN
    assert "a GPU that jax does not use" in found.text
    assert devices(FOUND, tmp_path, "cpu").state == OK
    assert devices(FOUND | {"platform": "gpu"}, tmp_path, None).state == OK


def test_a_device_that_computes_wrongly_is_broken(tmp_path):
    found = devices(FOUND | {"error": 0.25, "memory": 96 * 2**30}, tmp_path, None)
    assert found.state == BROKEN
    assert "2 × cpu (cpu-2), 96.0 GiB each: a matrix product is wrong by 2.5e-01" in found.text


def test_a_jax_that_cannot_start_is_a_finding_with_its_last_words(ellav, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "none")
    done = ellav("doctor")
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("devices"))
    assert re.match(
        r"devices +BROKEN +jax can't start here \(status 1: .*none.*\); install the jax for this hardware", line
    )
    assert done.stderr == "ellav: error: broken: devices; the table says what to do\n"


def test_a_disk_without_room_or_rights_is_broken(monkeypatch, tmp_path):
    assert disk("disk", tmp_path / "a" / "b").text.startswith(f"{tmp_path} has ")
    assert disk("disk", Path("/sys/kernel/ellav")).state == BROKEN
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**29}))
    assert disk("disk", tmp_path) == Finding("disk", BROKEN, f"{tmp_path} has 0.50 GiB left; make room, at least 1 GiB")
