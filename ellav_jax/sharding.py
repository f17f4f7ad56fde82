"""The mesh, and which logical axis of an array lies on which of its axes."""

import contextlib
import contextvars
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ellav_jax.errors import InputError
from ellav_jax.hardware import hardware_name

MESH_AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; −1, for one of them, takes all that the others leave.

    hardware: (regular expression, data, fsdp, tensor) for machines that want other sizes: the first expression that
    matches the whole name of the hardware (ellav_jax/hardware.py: "v5p-256", "2xv5e-256", "h100-8", "cpu-2") decides.
    Slices of a multi-slice machine lie along `data`, whose size counts the devices of all of them.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    hardware: tuple[tuple[str, int, int, int], ...] = ()

    def __post_init__(self) -> None:
        # As read from JSON they are lists.
        object.__setattr__(self, "hardware", tuple((pattern, *sizes) for pattern, *sizes in self.hardware))
        for pattern, *_ in self.hardware:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"mesh.hardware: {pattern!r} is not a regular expression ({error})") from None

    def sizes(self, hardware: str) -> tuple[int, int, int]:
        """Sizes of data, fsdp, tensor on hardware of this name."""
        for pattern, *sizes in self.hardware:
            if re.fullmatch(pattern, hardware):
                return tuple(sizes)
        return self.data, self.fsdp, self.tensor


def mesh_shape(config: MeshConfig, hardware: str, num_devices: int, slices: int = 1) -> tuple[int, int, int]:
    """Devices along data, fsdp and tensor. Raises InputError when the sizes don't multiply to their number, or slices
    don't lie along data."""
    asked = config.sizes(hardware)
    sizes = list(asked)
    rest = math.prod(size for size in sizes if size > 0)
    if sizes.count(-1) == 1 and num_devices % rest == 0:
        sizes[sizes.index(-1)] = num_devices // rest
    wanted = " ".join(f"{name}={size}" for name, size in zip(MESH_AXES, asked, strict=True))
    if min(sizes) < 1 or math.prod(sizes) != num_devices:
        raise InputError(
            f"mesh {wanted} does not fit {num_devices} devices ({hardware}); sizes must multiply to that number (one of "
            "them may be -1: the rest)"
        )
    if sizes[0] % slices:
        raise InputError(
            f"mesh {wanted}: {slices} slices lie along data, whose size {sizes[0]} they do not divide; make data a multiple "
            f"of {slices}"
        )
    return tuple(sizes)


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over these devices, by default all. Raises InputError as `mesh_shape` does."""
    devices = jax.devices() if devices is None else devices
    # Elsewhere `slice_index` may be a host's, and rows of a mesh need not end with it.
    slices = len({getattr(device, "slice_index", 0) for device in devices}) if devices[0].platform == "tpu" else 1
    data, fsdp, tensor = mesh_shape(config, hardware_name(devices), len(devices), slices)
    # Between slices the network is slow: only the gradients' sum crosses it.
    arrange = mesh_utils.create_device_mesh if slices == 1 else mesh_utils.create_hybrid_device_mesh
    shape = ((data, fsdp, tensor),) if slices == 1 else ((data // slices, fsdp, tensor), (slices, 1, 1))
    return Mesh(arrange(*shape, devices=devices), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


@dataclasses.dataclass(frozen=True)
class ShardingRules:
    """Logical axis → mesh axis (or axes, or None: replicated)."""

    batch: tuple[str, ...] = ("data", "fsdp")
    embed: str | None = "fsdp"
    heads: str | None = "tensor"
    mlp: str | None = "tensor"
    vocab: str | None = None
    layers: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", tuple(self.batch))  # as read from JSON it is a list

    def spec(self, axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh, what: str) -> P:
        """Partition spec of an array with these logical axes.

        Raises InputError when a dimension does not divide by its mesh axes or two dimensions claim the same one.
        """
        parts = self.parts(axes)
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

    def parts(self, axes: Sequence[str | None]) -> list[tuple[str, ...] | str | None]:
        """The mesh axes of each logical axis, unchecked."""
        return [getattr(self, axis) if axis else None for axis in axes]

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


_RULES: contextvars.ContextVar[ShardingRules] = contextvars.ContextVar("sharding_rules")


@contextlib.contextmanager
def on_mesh(mesh: Mesh, rules: ShardingRules) -> Iterator[None]:
    """What is traced within lies on this mesh by these rules: see `constrain` and `per_shard`."""
    token = _RULES.set(rules)
    try:
        with jax.set_mesh(mesh):
            yield
    finally:
        _RULES.reset(token)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """The array, laid out by its logical axes; as it is outside of `on_mesh` and in what a device computes alone."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.are_all_axes_manual:
        return x
    return jax.lax.with_sharding_constraint(x, _RULES.get(ShardingRules()).spec(axes, x.shape, mesh, "an activation"))


def per_shard(
    function: Callable[..., jax.Array], axes_in: Sequence[Sequence[str | None]], axes_out: Sequence[str | None]
) -> Callable[..., jax.Array]:
    """`function`, run by each device on its part of the arguments; `function` itself where `constrain` changes nothing.

    axes_in: logical axes of each argument. axes_out: those of the result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.are_all_axes_manual:
        return function

    def run(*arguments: jax.Array) -> jax.Array:
        rules = _RULES.get(ShardingRules())
        specs_in = tuple(
            rules.spec(axes, argument.shape, mesh, "an argument of a kernel")
            for axes, argument in zip(axes_in, arguments, strict=True)
        )
        spec_out = P(*rules.parts(axes_out))
        return jax.shard_map(function, in_specs=specs_in, out_specs=spec_out, check_vma=False)(*arguments)

    return run


def rows_apart(function: Callable[[Any, Any], Any], whole: Any, by_row: Any) -> Any:
    """`function(whole, by_row)`, computed by each device for its own rows: a loop in it turns without waiting for others.

    by_row: arrays [B, …], and scalars that all rows share. All that is returned is [B, …]. Each device has all of `whole`
    for it, so on a mesh whose tensor axis divides the parameters, devices compute rows together, as they do elsewhere.
    """
    mesh = jax.sharding.get_abstract_mesh()
    batch = _RULES.get(ShardingRules()).batch
    if mesh.empty or math.prod(mesh.shape[axis] for axis in batch) < mesh.size:
        return function(whole, by_row)
    specs = jax.tree.map(lambda array: P(batch) if array.ndim else P(), by_row)
    return jax.shard_map(function, in_specs=(P(), specs), out_specs=P(batch), check_vma=False)(whole, by_row)


def global_batch(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Each process's rows [B/processes, …] → global arrays [B, …]."""
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
