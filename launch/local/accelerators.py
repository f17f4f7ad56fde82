"""The accelerators of this machine, and which GPUs each of several processes sees."""

import importlib.util
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ellav_jax.errors import InputError

_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def check_no_tpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> None:
    """Raises InputError where jax would use this machine's TPUs, which are all one process's."""
    platforms = environment.get("JAX_PLATFORMS", "tpu").split(",")
    present = any(devices.glob("accel[0-9]*")) or any(devices.glob("vfio/[0-9]*"))
    if present and "tpu" in platforms and importlib.util.find_spec("libtpu"):
        raise InputError(
            "--processes: one process has all TPUs of a machine; give --processes 1, or --env JAX_PLATFORMS=cpu"
        )


def visible_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that jax would use here, as CUDA_VISIBLE_DEVICES names them; none where it would use another platform."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if not any(map(importlib.util.find_spec, _PLUGINS)):
        return []
    present = sorted(int(path.name.removeprefix("nvidia")) for path in devices.glob("nvidia[0-9]*"))
    if not present:
        return []
    if VISIBLE not in environment:
        # CUDA counts from 0, whichever of a larger machine's nodes /dev has.
        return [str(index) for index in range(len(present))]
    return [name.strip() for name in environment[VISIBLE].split(",") if name.strip() not in ("", "-1")]


def split_gpus(gpus: list[str], processes: int, each: int | None) -> list[list[str]]:
    """The GPUs of each process, `each` of them or an equal share. Raises InputError where they don't suffice or divide."""
    if each is not None:
        if each * processes > len(gpus):
            raise InputError(
                f"--devices-per-process {each}: {processes} processes want {each * processes} GPUs, there are {len(gpus)}; "
                "give fewer of either"
            )
    elif processes > len(gpus):
        raise InputError(
            f"--processes {processes}: there are {len(gpus)} GPUs, and a GPU is one process's; give at most {len(gpus)}, "
            "or --env JAX_PLATFORMS=cpu"
        )
    elif len(gpus) % processes:
        raise InputError(
            f"--processes {processes}: {len(gpus)} GPUs do not divide among them; give a number that divides, or say with "
            "--devices-per-process how many each has"
        )
    share = each or len(gpus) // processes
    return [gpus[index * share : (index + 1) * share] for index in range(processes)]


def gpu_kind() -> str | None:
    """What the driver, and jax, call the first GPU ("NVIDIA H100 80GB HBM3"); None where it can't be asked."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = said.stdout.splitlines()
    return lines[0].strip() if said.returncode == 0 and lines else None
