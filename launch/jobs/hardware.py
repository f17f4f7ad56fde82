"""The machines of a distributed job: TPU slices or nodes of GPUs, by name, and whether an experiment fits on them."""

import dataclasses
import re

from jax.sharding import AbstractMesh, AxisType

from configs.experiment import Experiment
from ellav_jax.errors import InputError
from ellav_jax.hardware import TPUS, Topology, find_topology
from ellav_jax.sharding import MESH_AXES, mesh_shape
from launch.assemble import steps_of
from launch.planning.content import define


@dataclasses.dataclass(frozen=True)
class GpuType:
    """A GPU as clouds name it. chip: its name in ellav_jax/hardware.py. gke: value of GKE's accelerator label."""

    name: str
    chip: str
    gke: str
    sky: str


GPU_TYPES = (
    GpuType("a100", "a100", "nvidia-tesla-a100", "A100"),
    GpuType("a100-80gb", "a100", "nvidia-a100-80gb", "A100-80GB"),
    GpuType("h100", "h100", "nvidia-h100-80gb", "H100"),
    GpuType("h200", "h200", "nvidia-h200-141gb", "H200"),
)
GPUS_OF_A_NODE = 8


@dataclasses.dataclass(frozen=True)
class GpuNodes:
    """Nodes of one kind of GPU, one process to a node."""

    type: GpuType
    num_hosts: int
    gpus: int
    """Of each node."""
    slices: int = 1

    @property
    def name(self) -> str:
        """As `hardware_name` will call it when it runs: "h100-16"."""
        return f"{self.type.chip}-{self.num_devices}"

    @property
    def num_devices(self) -> int:
        """GPUs of all nodes."""
        return self.num_hosts * self.gpus


Hardware = Topology | GpuNodes


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of all processes together, wherever they come from; `name` as `hardware_name` will call them."""

    name: str
    num_devices: int
    slices: int = 1


def find_hardware(name: str) -> Hardware:
    """TPU slices (`v5p-256`, `2xv5e-16`: see `find_topology`) or GPUs (`h100-16`: two nodes of eight).

    Raises InputError for what cannot be had.
    """
    if re.fullmatch(r"(\d+x)?v\d.*", name):
        return find_topology(name)
    kind, _, count = name.rpartition("-")
    gpu = next((gpu for gpu in GPU_TYPES if gpu.name == kind), None)
    if gpu is None or not count.isdigit():
        raise InputError(
            f"hardware {name!r}: expected TYPE-NUMBER, as in v5p-256, 2xv5e-16 or h100-16; types are "
            f"{', '.join([*sorted(tpu.name for tpu in TPUS), *(gpu.name for gpu in GPU_TYPES)])}"
        )
    number = int(count)
    if number in (1, 2, 4, 8):
        return GpuNodes(gpu, 1, number)
    if number == 0 or number % GPUS_OF_A_NODE:
        raise InputError(
            f"hardware {name!r}: nodes have {GPUS_OF_A_NODE} GPUs; give 1, 2 or 4 of one node, or a multiple of "
            f"{GPUS_OF_A_NODE}"
        )
    return GpuNodes(gpu, number // GPUS_OF_A_NODE, GPUS_OF_A_NODE)


def check_fits(experiment: Experiment, hardware: Hardware | Devices) -> None:
    """Raises InputError where mesh, batch, heads or a parameter's shape does not divide on this hardware, as training would.

    Nothing is allocated, no device is touched.
    """
    shape = mesh_shape(experiment.mesh, hardware.name, hardware.num_devices, hardware.slices)
    mesh = AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
    steps_of(experiment, define(experiment), mesh)
    heads = experiment.model.transformer.num_heads
    experiment.sharding.spec(("heads",), (heads,), mesh, "model.transformer.num_heads")
