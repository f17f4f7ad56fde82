"""One compiled step with all that is known of it: what it holds, what it needs, how long it would take."""

import dataclasses
from typing import Any

from ellav_jax.hardware import Topology
from ellav_jax.planning.aot import CompiledStep, DoesNotFit
from ellav_jax.planning.roofline import Roofline, Workload, attention_seconds, estimate
from launch.planning.content import Content


@dataclasses.dataclass(frozen=True)
class Point:
    """`compiled` is None where the step does not fit; `does_not_fit` says by how much."""

    topology: Topology
    workload: Workload
    content: Content
    compiled: CompiledStep | None
    does_not_fit: DoesNotFit | None

    @property
    def roofline(self) -> Roofline:
        """The closed form."""
        return estimate(self.workload, self.topology)

    @property
    def attention_seconds(self) -> float:
        """Of the attention kernel, in closed form; none where attention is not a kernel."""
        if self.workload.kernel is None:
            return 0.0
        return attention_seconds(self.workload, self.topology.tpu)

    @property
    def operation_seconds(self) -> float | None:
        """Of all other operations, as the compiler estimates them."""
        return self.compiled and self.compiled.cycles / self.topology.tpu.clock

    @property
    def seconds(self) -> float | None:
        """Of a step: operations and kernel one after the other, sending beside them."""
        if self.operation_seconds is None:
            return None
        return max(self.operation_seconds + self.attention_seconds, self.roofline.links, self.roofline.network)

    @property
    def seconds_by_cost(self) -> float | None:
        """Of a step as `seconds`, from the compiler's other estimate; None where the program loops."""
        cost = self.compiled and self.compiled.optimal_seconds
        return cost and max(cost + self.attention_seconds, self.roofline.links, self.roofline.network)

    def mfu(self, seconds: float) -> float:
        """Model FLOPs utilisation of a step that takes so long."""
        return self.content.model_flops / (seconds * self.topology.num_devices * self.topology.tpu.peak)

    def to_json(self) -> dict[str, Any]:
        """All figures; seconds, bytes, FLOPs."""
        roofline, tpu, seconds = self.roofline, self.topology.tpu, self.seconds
        return {
            "topology": self.topology.name,
            "devices": self.topology.num_devices,
            "hosts": self.topology.num_hosts,
            "slices": self.topology.slices,
            "workload": dataclasses.asdict(self.workload),
            "content": dataclasses.asdict(self.content),
            "memory": {"capacity": tpu.hbm_bytes, "needed": self.needed_bytes},
            "roofline": {
                **dataclasses.asdict(roofline),
                "binding": roofline.binding,
                "seconds": roofline.seconds,
                "mfu": self.mfu(roofline.seconds),
            },
            "compiled": self.compiled and dataclasses.asdict(self.compiled),
            "estimate": seconds
            and {
                "operations": self.operation_seconds,
                "attention_kernel": self.attention_seconds,
                "seconds": seconds,
                "mfu": self.mfu(seconds),
                "seconds_by_cost": self.seconds_by_cost,
            },
        }

    @property
    def needed_bytes(self) -> float | None:
        """Peak memory of a device, or what the compiler says that the step would need."""
        return self.compiled.peak_bytes if self.compiled else self.does_not_fit.needed
