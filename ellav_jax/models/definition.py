"""A model without its parameters: what a jitted function needs to build it from a plain dict of arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

Params = dict[str, Any]
"""Plain nested dict of float32 arrays; what checkpoints hold."""


def on_one_device(shapes: Params) -> Params:
    """These shapes, whole on this process's first device."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes)


@dataclasses.dataclass(frozen=True, eq=False)
class ModelDefinition:
    """Made once outside jit: inside, `merge` gives the module for a set of parameters.

    shapes: nested dict of `jax.ShapeDtypeStruct`. axes: nested dict of tuples of logical axes, one for each dimension.
    """

    graph: nnx.GraphDef
    shapes: Params
    axes: Mapping[str, Any]
    make: Callable[[jax.Array], nnx.Module]

    @classmethod
    def of(cls, make: Callable[[jax.Array], nnx.Module]) -> "ModelDefinition":
        """make: PRNG key → module. Nothing is allocated."""
        graph, state = nnx.split(nnx.eval_shape(make, jax.random.key(0)))

        def axes_of(param: nnx.Param) -> tuple[str | None, ...]:
            axes = param.get_metadata("axes")
            # Stacked blocks have a leading layer axis more than the module that declared them.
            return ("layers",) * (len(param.shape) - len(axes)) + axes

        axes = jax.tree.map(axes_of, state, is_leaf=lambda x: isinstance(x, nnx.Variable))
        return cls(graph, nnx.to_pure_dict(state), nnx.to_pure_dict(axes), make)

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters are."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.shapes))

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters; to be jitted with the shardings wanted."""
        return nnx.to_pure_dict(nnx.state(self.make(key)))

    def merge(self, params: Params) -> Any:
        """The module with these parameters."""
        return nnx.merge(self.graph, params)
