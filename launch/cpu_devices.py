"""How many devices JAX makes of a machine's CPU cores."""

import contextlib
import os

import jax

from ellav_jax.sharding import MeshConfig


def use_cores(mesh: MeshConfig, rows: int) -> None:
    """One CPU device for each core, as far as they divide `rows` and fit the mesh; ahead of the first use of a device.

    Most element-wise operations of a training step run on one core of a device. With a device for each core, and its
    rows on it, all of them work. Where the mesh's sizes are given, where JAX_NUM_CPU_DEVICES or XLA_FLAGS say how many
    there are, or where devices are in use already, it stays at that. Accelerators are not concerned.
    """
    told = jax.config.jax_num_cpu_devices != -1 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    cores = len(os.sched_getaffinity(0))
    number = max(one for one in range(1, cores + 1) if one == 1 or _fits(mesh, rows, one))
    if number > 1 and not told:
        with contextlib.suppress(RuntimeError):  # devices are in use
            jax.config.update("jax_num_cpu_devices", number)


def _fits(mesh: MeshConfig, rows: int, devices: int) -> bool:
    data, fsdp, tensor = mesh.sizes(f"cpu-{devices}")
    return data == -1 and min(fsdp, tensor) > 0 and devices % (fsdp * tensor) == 0 and rows % (devices // tensor) == 0
