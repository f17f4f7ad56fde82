"""TrainedModel: a definition with the parameters that go into it."""

import dataclasses

from ellav_jax.models.definition import ModelDefinition, Params


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model with its parameters."""

    definition: ModelDefinition
    params: Params
