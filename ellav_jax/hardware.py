"""What is known of accelerators: peaks, memory, links, and the names by which Google and everyone else calls them.

A name is `v5p-256`, `v5e-16`, `2xv5p-256` (slices), `h100-8` or `cpu-2`. As in Google's own names the number behind v4
and v5p counts TensorCores, two to a chip, where JAX sees one device a chip: v5p-256 is 128 devices. Elsewhere it
counts devices.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax

from ellav_jax.errors import InputError

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One JAX device of a kind.

    kinds: how its `device_kind` begins. peak: dense bfloat16 FLOP/s.
    """

    name: str
    kinds: tuple[str, ...]
    peak: float


@dataclasses.dataclass(frozen=True)
class Tpu(Chip):
    """A TPU chip, which is one JAX device, and the slices that it comes in.

    hbm_bytes: what XLA may use of a device's memory. hbm_bandwidth: bytes/s. link_bandwidth: bytes/s of one ICI link in one
    direction; each axis of a slice has one link in each direction. network_bandwidth: bytes/s of one device's share of
    the data centre's network, between slices. clock: cycles/s at which the matrix units reach the peak. cores:
    TensorCores of a chip. matrix_unit: rows and columns of one systolic array. libtpu_name: in libtpu's topology names.
    shapes: of the slices, in chips.
    """

    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    clock: float
    cores: int
    matrix_unit: int
    libtpu_name: str
    shapes: tuple[tuple[int, ...], ...]


_CUBES = (
    *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8)),
    *((8, 8, 8), (8, 8, 16), (8, 16, 16), (16, 16, 16), (16, 16, 24)),
)
_SQUARES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))

# Peaks, memory bandwidth, slice shapes and the network's share of a chip (v5p: 50 Gbit/s a chip; v5e and v6e: 6.4 and
# 25.6 Tbit/s a pod of 256; v4: taken as v5p's) are those of Google Cloud's pages on each TPU, links those of "How to Scale
# Your Model" (the Cloud pages give 10 % more). Memory is what the compiler of libtpu 0.0.42.1 admits.
TPUS = (
    Tpu("v4", ("TPU v4",), 2.75e14, 30.75 * GIB, 1.2e12, 4.5e10, 6.25e9, 1.05e9, 2, 128, "v4", _CUBES[:11]),
    Tpu(
        "v5e", ("TPU v5 lite", "TPU v5e"), 1.97e14, 15.75 * GIB, 8.1e11, 4.5e10, 3.125e9, 1.5e9, 1, 128, "v5e", _SQUARES
    ),
    Tpu(
        "v6e", ("TPU v6 lite", "TPU v6e"), 9.18e14, 31.25 * GIB, 1.6e12, 9e10, 1.25e10, 1.75e9, 1, 256, "v6e", _SQUARES
    ),
    # After v5e: both kinds of the fifth generation begin alike.
    Tpu("v5p", ("TPU v5p", "TPU v5"), 4.59e14, 95.73 * GIB, 2.765e12, 9e10, 6.25e9, 1.75e9, 2, 128, "v5", _CUBES),
)
# Sources: NVIDIA's data sheets (without sparsity; the H100's and H200's is that of the SXM module).
GPUS = (
    Chip("a100", ("NVIDIA A100",), 3.12e14),
    Chip("h100-pcie", ("NVIDIA H100 PCIe",), 7.56e14),
    Chip("h100-nvl", ("NVIDIA H100 NVL",), 8.35e14),
    Chip("h100", ("NVIDIA H100",), 9.89e14),
    Chip("h200", ("NVIDIA H200",), 9.89e14),
)


def find_chip(device_kind: str) -> Chip | None:
    """The chip whose `device_kind` this is, or None where it is not known (CPUs among them)."""
    return next((chip for chip in (*TPUS, *GPUS) if device_kind.startswith(chip.kinds)), None)


def device_peak(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of one device, or None where it is not known (CPUs among them)."""
    chip = find_chip(device_kind)
    return chip.peak if chip else None


def hardware_name(devices: Sequence[jax.Device]) -> str:
    """Name of the hardware that these devices are: "v5p-256", "2xv5e-16", "h100-8", "cpu-2"."""
    first = devices[0]
    chip = find_chip(first.device_kind)
    name = chip.name if chip else first.platform
    if not isinstance(chip, Tpu):
        return f"{name}-{len(devices)}"
    # A single slice's devices may lack the attribute.
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    return f"{f'{slices}x' if slices > 1 else ''}{name}-{len(devices) // slices * chip.cores}"


@dataclasses.dataclass(frozen=True)
class Topology:
    """TPU slices that need not be there: `slices` of `shape` chips, each wired as a torus where it is long enough."""

    tpu: Tpu
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        """As `find_topology` takes it."""
        return f"{f'{self.slices}x' if self.slices > 1 else ''}{self.tpu.name}-{math.prod(self.shape) * self.tpu.cores}"

    @property
    def num_devices(self) -> int:
        """Devices of all slices."""
        return self.slices * math.prod(self.shape)

    @property
    def host_shape(self) -> tuple[int, int, int]:
        """Chips of one host. Google's hosts have four; v5e and v6e come as one host with one or eight as well."""
        one_host = {(1, 1): (1, 1, 1), (2, 4): (2, 4, 1)}
        return one_host.get(self.shape, (2, 2, 1))

    @property
    def num_hosts(self) -> int:
        """Hosts of all slices."""
        return self.num_devices // math.prod(self.host_shape)

    @property
    def wrapped(self) -> tuple[bool, ...]:
        """Which axes close to a ring. v4 and v5p: those of whole cubes of 4; v5e and v6e: those as long as the pod, 16."""
        if len(self.shape) == 3:
            return (all(size % 4 == 0 for size in self.shape),) * 3
        return tuple(size == 16 for size in self.shape)

    def libtpu_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `jax.experimental.topologies.get_topology_desc`."""
        arguments = {
            "platform": "tpu",
            "topology_name": f"{self.tpu.libtpu_name}:{'x'.join(map(str, self.shape))}",
            "chips_per_host_bounds": self.host_shape,
            "num_slices": self.slices,
            "wrap": (*self.wrapped, False)[:3],
        }
        # Two cores of a chip work as one device.
        return arguments | ({"chip_config_name": "megacore"} if self.tpu.cores == 2 else {})


def find_topology(name: str) -> Topology:
    """The topology of a name such as "v5p-256" or "2xv5e-16". Raises InputError for what Google doesn't offer."""
    match = re.fullmatch(r"(?:(\d+)x)?(v\w+)-(\d+)", name)
    tpu = next((tpu for tpu in TPUS if match and tpu.name == match[2]), None)
    if tpu is None or match[1] in ("0", "00"):
        raise InputError(
            f"topology {name!r}: expected TYPE-SIZE or SLICESxTYPE-SIZE, as in v5p-256 or 2xv5e-16; "
            f"types are {', '.join(sorted(tpu.name for tpu in TPUS))}"
        )
    sizes = {math.prod(shape) * tpu.cores: shape for shape in tpu.shapes}
    if int(match[3]) not in sizes:
        counted = "TensorCores, two to a chip" if tpu.cores == 2 else "chips"
        raise InputError(
            f"topology {name!r}: {tpu.name} has no slice of {match[3]}; sizes count {counted}: "
            f"{', '.join(map(str, sizes))}"
        )
    return Topology(tpu, sizes[int(match[3])], int(match[1] or 1))
