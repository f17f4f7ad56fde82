"""A trained model as found on disk: its weights and the card that says what it is."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from configs.experiment import Experiment, from_json
from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.models.definition import ModelDefinition, on_one_device
from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import Nar
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.training.checkpoint import find_checkpoint, load_params, read_card
from ellav_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedCard:
    """A checkpoint, the experiment it comes from, the frontend and the codec (name, sha256) of its data."""

    path: Path
    experiment: Experiment
    frontend: Frontend
    codec: dict[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained(TrainedCard):
    """The same, and the model."""

    model: TrainedModel


def define_model(experiment: Experiment, num_phones: int, codebooks_QxCxE: np.ndarray | None = None) -> ModelDefinition:
    """The experiment's model for an inventory of `num_phones` phones; the codebooks are for fresh parameters alone."""
    model = experiment.model
    if experiment.kind == "gar":
        return ModelDefinition.of(lambda key: Gar(model, Vocabulary(num_phones), key, codebooks_QxCxE))
    return ModelDefinition.of(lambda key: Nar(model, num_phones, key, codebooks_QxCxE))


def read_trained(path: str | Path, kind: Literal["gar", "nar"]) -> "TrainedCard":
    """What a work directory's latest checkpoint, or one checkpoint, says of itself; its weights stay where they are.

    Raises InputError when there is none, it is damaged, or it holds a model of the other kind.
    """
    checkpoint = find_checkpoint(path)
    card = read_card(checkpoint)
    experiment = from_json(card["experiment"], str(checkpoint))
    if experiment.kind != kind:
        raise InputError(f"{checkpoint} holds a {experiment.kind.upper()}, expected a {kind.upper()} (--{kind})")
    frontend = Frontend.from_dict(card["frontend"], str(checkpoint))
    return TrainedCard(checkpoint, experiment, frontend, dict(card["codec"]))


def load_trained(path: str | Path, kind: Literal["gar", "nar"], *, average: bool = True) -> Trained:
    """The same with its weights, on one device; average: their moving average, where it is kept."""
    card = read_trained(path, kind)
    definition = define_model(card.experiment, len(card.frontend.phones))
    params = load_params(card.path, on_one_device(definition.shapes), average=average)
    return Trained(card.path, card.experiment, card.frontend, card.codec, TrainedModel(definition, params))


def check_together(gar: TrainedCard, nar: TrainedCard) -> None:
    """Raises InputError where the two don't speak the same phones, or with another local advance."""
    gar.frontend.check_same(nar.frontend, f"{nar.path} (beside {gar.path})")
    if gar.experiment.layout.local_advance != nar.experiment.layout.local_advance:
        raise InputError(
            f"{gar.path} has a local advance of {gar.experiment.layout.local_advance} frames, {nar.path} of "
            f"{nar.experiment.layout.local_advance}; train both with one --layout.local-advance"
        )


def check_codec(trained: TrainedCard, name: str, sha256: str) -> None:
    """Raises InputError where the codec of this name and file isn't the one that a model's data was made with."""
    if trained.codec["sha256"] != sha256:
        raise InputError(
            f"{trained.path} knows the codes of codec {trained.codec['name']} (sha256 {trained.codec['sha256'][:12]}…), "
            f"not those of {name} ({sha256[:12]}…); give that one with --codec"
        )
