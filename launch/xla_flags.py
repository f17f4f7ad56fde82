"""Flags of the compiler for the hardware of this machine; a run's starts.jsonl records what it ran with."""

import os
from collections.abc import MutableMapping
from pathlib import Path

# Overlap of the weights' gathering and the gradients' reduction with matrix products. Names: XLA's own (xla.proto), and
# libtpu's as its AOT compiler takes them.
GPU_FLAGS = (
    "--xla_gpu_enable_latency_hiding_scheduler=true",
    "--xla_gpu_all_reduce_combine_threshold_bytes=134217728",
    "--xla_gpu_all_gather_combine_threshold_bytes=134217728",
    "--xla_gpu_reduce_scatter_combine_threshold_bytes=67108864",
)
TPU_FLAGS = (
    "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
    "--xla_tpu_data_parallel_opt_different_sized_ops=true",
    "--xla_tpu_enable_async_collective_fusion=true",
    "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "--xla_tpu_overlap_compute_collective_tc=true",
    "--xla_enable_async_all_gather=true",
)


def set_flags(environment: MutableMapping[str, str] = os.environ, devices: Path = Path("/dev")) -> None:
    """Puts the flags for the accelerator of this machine into the environment, ahead of the first use of a device.

    A flag that is there already stays as it is.
    """
    if any(devices.glob("nvidia[0-9]*")):
        _add(environment, "XLA_FLAGS", GPU_FLAGS)
    elif any(devices.glob("accel[0-9]*")) or any(devices.glob("vfio/[0-9]*")):
        _add(environment, "LIBTPU_INIT_ARGS", TPU_FLAGS)


def _add(environment: MutableMapping[str, str], name: str, flags: tuple[str, ...]) -> None:
    present = environment.get(name, "").split()
    names = {flag.partition("=")[0] for flag in present}
    environment[name] = " ".join(present + [flag for flag in flags if flag.partition("=")[0] not in names])
