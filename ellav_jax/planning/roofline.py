"""A training step's time in closed form: what it computes, moves through memory and sends, each at the hardware's best.

An estimate, and a lower bound: compute, memory and links are taken to overlap entirely, so the slowest of them is the step.
After "How to Scale Your Model" (Austin et al. 2025), chapters on rooflines and on sharding.
"""

import dataclasses

from ellav_jax.flops import layer_matrices
from ellav_jax.hardware import Topology, Tpu
from ellav_jax.models.transformer import TransformerConfig

KERNEL_EFFICIENCY = {"pallas_tpu": 0.76, "splash": 0.58}
"""Share of the matrix units' time that a TPU attention kernel fills, of what its heads' width lets it fill.

Counted, not measured: instruction bundles that libtpu 0.0.42.1 schedules for v5p, taken as cycles. splash, heads of 64:
2,264 forward and 3,185 backward for one block of 512² scores, over the 36 blocks that a causal row of 4,096 visits.
pallas_tpu, two heads of 64 or one of 128: 2,330 or 1,281 and 3,643 or 2,516 for one block, and 371 or 341 and 1,320 or 1,260
for each of a row's eight blocks, over the 20 blocks that a row visits on average; 76 % and 79 %. Other TPUs are taken to
do as well.
"""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One training step: `rows` rows of `row_length` positions over a mesh of data × fsdp × tensor devices.

    outputs: width of the head, over all stages that run. num_parameters: of the whole model. visited: share of a row's
    square that lies in blocks which pallas_tpu visits, a mean over rows.
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
    visited: float

    @property
    def kernel(self) -> str | None:
        """The attention kernel that a TPU runs; None where attention is not a kernel."""
        asked = self.transformer.attention
        return {"auto": "pallas_tpu", "pallas_tpu": "pallas_tpu", "splash": "splash"}.get(asked)

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


def attention_flops(workload: Workload) -> tuple[float, float]:
    """FLOPs of attention on one device: of products that sum over a head's width, and of those whose result has it.

    Forward one of each; backward, in one kernel that computes the scores again, two of the one and three of the other (Dao
    2023, section 3). splash and plain products run over whole rows, half of their
    square when causal; pallas_tpu over the blocks that it visits, masked within.
    """
    config = workload.transformer
    whole = 0.5 if workload.causal else 1.0
    area = workload.row_length**2 * (workload.visited if workload.kernel == "pallas_tpu" else whole)
    product = 2 * area * config.width * config.num_layers * workload.rows / workload.devices
    again = config.remat == "full"
    return (3 + again) * product, (4 + again) * product


def attention_seconds(workload: Workload, tpu: Tpu) -> float:
    """Time of attention on one device.

    Where a sum is narrower than the matrix unit part of it idles; splash has narrow results too, which pallas_tpu turns.
    """
    filled = min(1.0, workload.transformer.head_width / tpu.matrix_unit)
    sums, results = attention_flops(workload)
    results_filled = 1.0 if workload.kernel == "pallas_tpu" else filled
    return (sums / filled + results / results_filled) / (tpu.peak * KERNEL_EFFICIENCY[workload.kernel or "splash"])


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
