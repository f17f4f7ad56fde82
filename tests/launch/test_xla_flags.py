"""Compiler flags: by what devices there are, and never against the user."""

import os
import subprocess
import sys

import pytest

from launch.xla_flags import GPU_FLAGS, TPU_FLAGS, set_flags


@pytest.mark.parametrize(
    "device, variable, flags",
    [
        ("nvidia0", "XLA_FLAGS", GPU_FLAGS),
        ("accel0", "LIBTPU_INIT_ARGS", TPU_FLAGS),
        ("vfio/0", "LIBTPU_INIT_ARGS", TPU_FLAGS),
    ],
)
def test_an_accelerators_flags_are_set(tmp_path, device, variable, flags):
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    environment = {}
    set_flags(environment, tmp_path)
    assert environment == {variable: " ".join(flags)}


def test_a_cpu_gets_none_and_a_users_flag_stays(tmp_path):
    environment = {}
    set_flags(environment, tmp_path)
    assert environment == {}
    name = GPU_FLAGS[0].partition("=")[0]
    (tmp_path / "nvidia0").touch()
    environment = {"XLA_FLAGS": f"--xla_dump_to=/nowhere {name}=false"}
    set_flags(environment, tmp_path)
    assert environment["XLA_FLAGS"].split() == ["--xla_dump_to=/nowhere", f"{name}=false", *GPU_FLAGS[1:]]


def test_xla_knows_the_gpu_flags():
    """An unknown flag in XLA_FLAGS ends the process."""
    code = "import jax; print(float(jax.numpy.ones(3).sum()))"
    for flags, succeeds in ((GPU_FLAGS, True), (("--xla_gpu_no_such_flag=true",), False)):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode == 0) == succeeds, done.stderr
