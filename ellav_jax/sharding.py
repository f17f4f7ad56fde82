"""The mesh, and which logical axis of an array lies on which of its axes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ellav_jax.errors import InputError

MESH_AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; −1, for one of them, takes all that the others leave."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over all devices. Raises InputError when the sizes don't multiply to their number."""
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    rest = math.prod(size for size in sizes if size > 0)
    if sizes.count(-1) == 1 and len(devices) % rest == 0:
        sizes[sizes.index(-1)] = len(devices) // rest
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise InputError(
            f"mesh data={config.data} fsdp={config.fsdp} tensor={config.tensor} does not fit {len(devices)} devices; "
            "sizes must multiply to that number (one of them may be -1: the rest)"
        )
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


@dataclasses.dataclass(frozen=True)
class ShardingRules:
    """Logical axis → mesh axis (or axes, or None: replicated)."""

    batch: tuple[str, ...] | str | None = ("data", "fsdp")
    embed: str | None = "fsdp"
    heads: str | None = "tensor"
    mlp: str | None = "tensor"
    vocab: str | None = None
    layers: str | None = None

    def spec(self, axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh, what: str) -> P:
        """Partition spec of an array with these logical axes.

        Raises InputError when a dimension does not divide by its mesh axes or two dimensions claim the same one.
        """
        parts = [getattr(self, axis) if axis else None for axis in axes]
        claimed: list[str] = []
        for size, part in zip(shape, parts, strict=True):
            names = (part,) if isinstance(part, str) else part or ()
            devices = math.prod(mesh.shape[name] for name in names)
            if size % devices:
                raise InputError(
                    f"{what}: a dimension of {size} does not divide over {devices} devices (mesh axis {'×'.join(names)}); "
                    "change the mesh or that size"
                )
            claimed += names
        if len(set(claimed)) < len(claimed):
            raise InputError(
                f"{what}: two dimensions claim one mesh axis ({', '.join(claimed)}); change the sharding rules"
            )
        return P(*parts)

    def of_params(self, shapes: Mapping[str, Any], axes: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
        """Shardings of a nested dict of parameters, given their shapes and logical axes."""
        return jax.tree.map_with_path(
            lambda path, leaf, names: NamedSharding(
                mesh,
                self.spec(
                    names, leaf.shape, mesh, "parameter " + jax.tree_util.keystr(path, simple=True, separator=".")
                ),
            ),
            shapes,
            axes,
        )

    def of_batch(self, mesh: Mesh, rows: int) -> NamedSharding:
        """Sharding of global batches of `rows` rows: these over the batch axes, the rest replicated."""
        return NamedSharding(mesh, self.spec(("batch",), (rows,), mesh, "data.batch_rows"))


def global_batch(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Each process's rows [B/processes, …] → global arrays [B, …]."""
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
