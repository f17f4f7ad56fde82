"""Compiles a lowered step for TPUs that need not be there, and reads off what the compiler knows of it."""

import dataclasses
import importlib.util
import os
import re
import time
from collections.abc import Mapping

import jax
from jax.experimental import topologies

from ellav_jax.errors import InputError
from ellav_jax.hardware import GIB, Topology
from ellav_jax.planning.program_text import Collective, read_program


class DoesNotFit(InputError):
    """The step wants more memory than a device has; `needed` and `available` are bytes, where the compiler says them."""

    def __init__(self, needed: float | None, available: float | None):
        figures = "" if needed is None else f" (it wants {needed / GIB:.2f} GiB of {available / GIB:.2f} GiB)"
        super().__init__(
            f"the step does not fit a device's memory{figures}; recompute more (--model.transformer.remat full), or give "
            "each device fewer rows (smaller --data.batch-rows, or --train.accumulate) or less of the parameters (larger "
            "--mesh.fsdp)"
        )
        self.needed, self.available = needed, available


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What the compiler says of a program, for one device.

    peak_bytes: most memory in use at once; state_bytes of it are arguments (parameters, optimizer, batch).
    cycles: the compiler's estimates for the operations of a run, added up; collectives and Pallas kernels have none.
    optimal_seconds: its cost analysis's, likewise; None where the program loops, since that counts a loop's body once.
    """

    lower_seconds: float
    compile_seconds: float
    peak_bytes: int
    state_bytes: int
    cycles: int
    optimal_seconds: float | None
    collectives: tuple[Collective, ...]


def compiling_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment of a process that compiles for TPUs without one; it must be set before jax is imported.

    jax itself runs on the CPU; libtpu doesn't look for the machine it would run on, and several processes may load it.
    """
    return {
        **base,
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5p-8",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }


def libtpu_found() -> bool:
    """Whether the compiler for TPUs is installed, or `TPU_LIBRARY_PATH` names one."""
    return "TPU_LIBRARY_PATH" in os.environ or importlib.util.find_spec("libtpu") is not None


def topology_devices(topology: Topology) -> list[jax.Device]:
    """Devices of a topology to compile for, in a process with `compiling_environment`. Raises InputError without libtpu."""
    if not libtpu_found():
        raise InputError("compiling for TPUs wants libtpu, which is not installed: pip install 'ellav-jax[tpu-plan]'")
    arguments = topology.libtpu_arguments()
    return topologies.get_topology_desc(**arguments).devices


def compile_step(lowered: jax.stages.Lowered, lower_seconds: float) -> CompiledStep:
    """Compiles a step that was lowered for devices of a topology. Raises DoesNotFit."""
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(*_memory_of(str(error))) from None
    seconds = time.perf_counter() - start
    memory, facts = compiled.memory_analysis(), read_program(compiled.as_text())
    return CompiledStep(
        lower_seconds=lower_seconds,
        compile_seconds=seconds,
        peak_bytes=memory.peak_memory_in_bytes,
        state_bytes=memory.argument_size_in_bytes,
        cycles=facts.cycles,
        optimal_seconds=None if facts.loops else compiled.cost_analysis().get("optimal_seconds"),
        collectives=facts.collectives,
    )


def _memory_of(message: str) -> tuple[float | None, float | None]:
    """Bytes that the program wants beside its arguments, and that there are, from the compiler's message."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    match = re.search(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)", message)
    return (float(match[1]) * units[match[2]], float(match[3]) * units[match[4]]) if match else (None, None)
