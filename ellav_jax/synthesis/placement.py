"""Where batches of sentences are computed: on one device, or with their rows over a mesh."""

import contextlib
import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh

from ellav_jax.sharding import ShardingRules, on_mesh
from ellav_jax.synthesis.trained_model import TrainedModel


@dataclasses.dataclass(frozen=True)
class Placement:
    """mesh: None, the models' own device. On a mesh the rows of a batch lie over its batch axes, parameters by the rules."""

    mesh: Mesh | None = None
    rules: ShardingRules = ShardingRules()

    @property
    def multiple(self) -> int:
        """What the rows of a batch must be a multiple of."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in self.rules.batch)

    def model(self, model: TrainedModel) -> TrainedModel:
        """The model with its parameters laid out."""
        if self.mesh is None:
            return model
        shardings = self.rules.of_params(model.definition.shapes, model.definition.axes, self.mesh)
        return TrainedModel(model.definition, jax.device_put(model.params, shardings))

    def rows(self, arrays: Any) -> Any:
        """Arrays whose first axis is that of the rows, laid out."""
        if self.mesh is None:
            return arrays
        return jax.tree.map(lambda a: jax.device_put(a, self.rules.of_batch(self.mesh, a.shape[0])), arrays)

    def context(self) -> contextlib.AbstractContextManager[None]:
        """Within it, what is traced lies on the mesh."""
        return contextlib.nullcontext() if self.mesh is None else on_mesh(self.mesh, self.rules)
