"""CPU devices by the machine's cores, in processes of their own: what a process has begun with stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys
os.sched_getaffinity = lambda pid: set(range(8))  # a machine with eight cores
import jax
from ellav_jax.sharding import MeshConfig
from launch.cpu_devices import use_cores

found = []
for mesh, rows in json.loads(sys.argv[1]):
    jax.config.update("jax_num_cpu_devices", -1)
    use_cores(MeshConfig(*mesh), rows)
    found.append(jax.config.jax_num_cpu_devices)
print(json.dumps(found))
"""
CASES = [
    # mesh (data, fsdp, tensor), rows → devices; −1: JAX's own choice, which is one
    (((-1, 1, 1), 16), 8),
    (((-1, 1, 1), 2), 2),
    (((-1, 1, 1), 6), 6),
    (((-1, 1, 1), 7), 7),
    (((-1, 1, 1), 11), -1),
    (((-1, 2, 1), 6), 6),
    (((-1, 1, 2), 2), 4),
    (((-1, 16, 1), 16), -1),
    (((1, 1, 1), 16), -1),
    (((1, -1, 1), 16), -1),
]


def _run(script, *arguments, **environment):
    command = [sys.executable, "-c", script, *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_as_many_devices_as_cores_that_divide_the_rows_and_fit_the_mesh():
    cases, expected = zip(*CASES, strict=True)
    assert _run(SCRIPT, json.dumps(cases)) == list(expected)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("JAX_NUM_CPU_DEVICES", "3", 3), ("XLA_FLAGS", "--xla_force_host_platform_device_count=4", 4)],
)
def test_what_the_environment_says_stays(name, value, expected):
    script = (
        "import jax; from ellav_jax.sharding import MeshConfig; from launch.cpu_devices import use_cores\n"
        "use_cores(MeshConfig(), 16); print(jax.device_count())"
    )
    assert _run(script, **{name: value}) == expected


def test_devices_in_use_stay_as_they_are():
    script = (
        "import jax; from ellav_jax.sharding import MeshConfig; from launch.cpu_devices import use_cores\n"
        "before = jax.device_count(); use_cores(MeshConfig(), 16); print(jax.device_count() - before)"
    )
    assert _run(script) == 0
