"""A trained model as found on disk: its weights and the card that says what it is."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from configs.experiment import Experiment, from_json
from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import Nar
from ellav_jax.synthesis.synthesizer import TrainedModel
from ellav_jax.training.checkpoint import find_checkpoint, load_params, read_card
from ellav_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model, the experiment it comes from, the frontend and the codec (name, sha256) of its data."""

    path: Path
    model: TrainedModel
    experiment: Experiment
    frontend: Frontend
    codec: dict[str, str]


def define_model(experiment: Experiment, num_phones: int, codebooks_QxCxE: np.ndarray | None = None) -> ModelDefinition:
    """The experiment's model for an inventory of `num_phones` phones; the codebooks are for fresh parameters alone."""
    model = experiment.model
    if experiment.kind == "gar":
        return ModelDefinition.of(lambda key: Gar(model, Vocabulary(num_phones), key, codebooks_QxCxE))
    return ModelDefinition.of(lambda key: Nar(model, num_phones, key, codebooks_QxCxE))


def load_trained(path: str | Path, kind: Literal["gar", "nar"]) -> Trained:
    """Loads a work directory's latest checkpoint, or one checkpoint.

    Raises InputError when there is none, it is damaged, or it holds a model of the other kind.
    """
    checkpoint = find_checkpoint(path)
    card = read_card(checkpoint)
    experiment = from_json(card["experiment"], str(checkpoint))
    if experiment.kind != kind:
        raise InputError(f"{checkpoint} holds a {experiment.kind.upper()}, expected a {kind.upper()} (--{kind})")
    frontend = Frontend.from_dict(card["frontend"], str(checkpoint))
    definition = define_model(experiment, len(frontend.phones))
    params = load_params(checkpoint, definition.shapes)
    return Trained(checkpoint, TrainedModel(definition, params), experiment, frontend, dict(card["codec"]))
