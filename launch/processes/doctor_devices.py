"""`python -m launch.processes.doctor_devices`: what jax finds on this machine, as a line of JSON.

A process of its own: a broken driver ends a process, and a TPU that another one has, or that waits for the other hosts of
its pod, hangs it.
"""

import json
import subprocess
import sys
from typing import Any

from ellav_jax.errors import InputError
from launch.source_tree import SOURCE


def ask_jax(timeout: float) -> dict[str, Any]:
    """platform, kind, count, hardware, memory (bytes of a device; None: not known), error (of a matrix product, relative).

    Raises InputError, with what the process said last, where jax can't be imported or finds no device.
    """
    command = [sys.executable, "-m", "launch.processes.doctor_devices"]
    try:
        done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"jax found no device within {timeout:g} s; end what uses them; one host of a pod waits for the others: "
            "there, ellav doctor --distributed on all of them"
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = ["it said nothing", *(line.strip() for line in done.stderr.splitlines() if line.strip())]
        raise InputError(
            f"jax can't start here (status {done.returncode}: {said[-1]}); install the jax for this hardware: "
            "https://docs.jax.dev/en/latest/installation.html"
        )
    return json.loads(lines[-1])


def _find() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ellav_jax.hardware import hardware_name

    devices = jax.devices()
    one_NxN, other_NxN = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        found_NxN = np.asarray(jnp.matmul(one_NxN, other_NxN), np.float64)
    expected_NxN = one_NxN.astype(np.float64) @ other_NxN
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "hardware": hardware_name(devices),
        "memory": (devices[0].memory_stats() or {}).get("bytes_limit"),
        "error": float(np.abs(found_NxN - expected_NxN).max() / np.abs(expected_NxN).max()),
    }


if __name__ == "__main__":
    print(json.dumps(_find()))
