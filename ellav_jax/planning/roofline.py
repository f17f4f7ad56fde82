"""A training step's time in closed form: what it computes, moves through memory and sends, each at the hardware's best.

An estimate, and a lower bound: compute, memory and links are taken to overlap entirely, so the slowest of them is the step.
After "How to Scale Your Model" (Austin et al. 2025), chapters on rooflines and on sharding.
"""

import dataclasses

from ellav_jax.flops import layer_matrices
from ellav_jax.hardware import Topology, Tpu
from ellav_jax.models.transformer import TransformerConfig

KERNEL_EFFICIENCY = 0.58
"""Share of the matrix units' time that the TPU's attention kernel fills, of what its heads' width lets it fill.

Counted, not measured: for v5p, libtpu 0.0.42.1 schedules 2,264 instruction bundles forward and 3,185 backward for one block
of 512² scores of splash attention with heads of 64. Over the 36 blocks that a causal row of 4,096 visits, that is 58 % of
half the peak for what `attention_flops` counts.
"""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One training step: `rows` rows of `row_length` positions over a mesh of data × fsdp × tensor devices.

    outputs: width of the head, over all stages that run. num_parameters: of the whole model.
    """

    transformer: TransformerConfig
    causal: bool
    outputs: int
    num_parameters: int
    rows: int
    row_length: int
    data: int
    fsdp: int
    tensor: int

    @property
    def positions(self) -> int:
        """Of a step, padding included."""
        return self.rows * self.row_length

    @property
    def devices(self) -> int:
        """In the mesh."""
        return self.data * self.fsdp * self.tensor


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds a step that each part of the hardware is busy at its best."""

    compute: float
    memory: float
    links: float
    network: float

    @property
    def binding(self) -> str:
        """Name of the slowest part."""
        return max(dataclasses.asdict(self).items(), key=lambda part: part[1])[0]

    @property
    def seconds(self) -> float:
        """Of a step, if everything overlaps."""
        return max(dataclasses.asdict(self).values())


def estimate(workload: Workload, topology: Topology) -> Roofline:
    """The roofline of a step on a topology's devices."""
    tpu = topology.tpu
    return Roofline(
        compute=product_flops(workload) / tpu.peak + attention_seconds(workload, tpu),
        memory=memory_bytes(workload) / tpu.hbm_bandwidth,
        links=link_seconds(workload, topology),
        network=network_bytes(workload, topology.slices) / tpu.network_bandwidth,
    )


def product_flops(workload: Workload) -> float:
    """FLOPs of matrix products on one device, attention left out, recomputation and padding included."""
    config = workload.transformer
    # The forward pass computed again stops ahead of the last product, whose result nothing in the layer needs.
    again = 0 if config.remat in ("none", "dots") else layer_matrices(config) - config.width * config.ff_width
    layers = config.num_layers * (3 * layer_matrices(config) + again)
    head = 3 * config.width * workload.outputs
    return 2 * workload.positions * (layers + head) / workload.devices


def attention_flops(workload: Workload) -> float:
    """FLOPs of the flash attention kernel on one device.

    It runs over whole rows (half of their square when causal): segments are masked within a block, not skipped. Forward two
    products; backward five, in one kernel that computes the scores again (Dao 2023, section 3).
    """
    config = workload.transformer
    products = 2 + 5 + (2 if config.remat == "full" else 0)
    area = workload.row_length**2 * (0.5 if workload.causal else 1.0)
    return products * 2 * area * config.width * config.num_layers * workload.rows / workload.devices


def attention_seconds(workload: Workload, tpu: Tpu) -> float:
    """Time of the attention kernel on one device: heads narrower than the matrix unit leave part of it idle."""
    filled = min(1.0, workload.transformer.head_width / tpu.matrix_unit)
    return attention_flops(workload) / (tpu.peak * filled * KERNEL_EFFICIENCY)


def memory_bytes(workload: Workload) -> float:
    """Bytes that one device reads and writes: bfloat16 activations at the door of each product, and the optimizer.

    Forward, each product reads its input and writes its result, attention reads three and writes one, norms and residual
    sums are within them; backward twice as much. AdamW reads gradient, parameter and two moments and writes three, float32.
    """
    config = workload.transformer
    gates = 2 if config.feed_forward == "swiglu" else 1
    numbers = 12 * config.width + gates * (config.width + config.ff_width) + (config.width + config.ff_width)
    passes = 3 + (config.remat in ("attention", "full"))
    activations = 2 * numbers * passes * config.num_layers * workload.positions / workload.devices
    weights = 2 * passes * workload.num_parameters / workload.tensor
    return activations + weights + 7 * 4 * workload.num_parameters / (workload.fsdp * workload.tensor)


def link_seconds(workload: Workload, topology: Topology) -> float:
    """Time on the links between chips of a slice.

    fsdp: parameters gathered in bfloat16, ahead of the forward and of the backward pass, gradients scattered in float32.
    data: gradients (or a device's part of them) summed in float32. tensor: two sums of activations a layer and pass.
    """
    config = workload.transformer
    within = workload.data // topology.slices
    own = workload.num_parameters / workload.tensor
    gathered = (2 * 2 + 4) * own * (1 - 1 / workload.fsdp)
    summed = 2 * 4 * own / workload.fsdp * (1 - 1 / within)
    # Each device of a tensor group works on the rows of all of them.
    local = workload.positions / (workload.data * workload.fsdp)
    activations = 4 * config.num_layers * 2 * 2 * config.width * local * (1 - 1 / workload.tensor)
    return (gathered + summed + activations) / ring_bandwidth(topology)


def ring_bandwidth(topology: Topology) -> float:
    """Bytes/s at which a device passes on what all others get: over every axis at once, and in both directions of a ring."""
    axes = [wrapped for size, wrapped in zip(topology.shape, topology.wrapped, strict=True) if size > 1]
    return topology.tpu.link_bandwidth * max(1, sum(2 if wrapped else 1 for wrapped in axes))


def network_bytes(workload: Workload, slices: int) -> float:
    """Bytes that one device sends to other slices: the sum of its part of the gradients, float32."""
    in_a_slice = workload.devices // slices
    return 2 * 4 * workload.num_parameters / in_a_slice * (1 - 1 / slices)
