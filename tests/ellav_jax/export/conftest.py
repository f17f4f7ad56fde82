"""Small models trained in PyTorch on bundled speech: an export, a few dozen steps, and what came of them."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from data_pipelines.records import Dataset
from ellav_jax.export.convert import from_torch
from ellav_jax.export.folder import WEIGHTS, ExportedModel, write_model, write_root
from ellav_jax.export.safetensors_file import read_weights
from ellav_jax.export.verify import load_modeling
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.vocabulary import Vocabulary
from tests.torch_threads import one_torch_thread  # noqa: F401  a fixture, used by itself

STEPS = 30
PROVENANCE = {"step": STEPS, "weights": "last", "exported_with": "a test"}


@pytest.fixture(scope="session")
def dataset(prepared_bundled: Path) -> Dataset:
    return Dataset.open(prepared_bundled)


@pytest.fixture(scope="session")
def clips(dataset: Dataset) -> Callable[[str], list[Prompt]]:
    """`clips("train")`: utterances of a split, of at most 2.5 s."""

    def of(split: str) -> list[Prompt]:
        records = dataset.records(split)
        short = [records[i] for i in range(len(records)) if records[i].num_frames < 190]
        return [Prompt(one.phones_N.astype(np.int32), one.durations_N, one.codes_Tx8.astype(np.int32)) for one in short]

    return of


@pytest.fixture(scope="session")
def fresh(tiny: Callable, dataset: Dataset) -> Callable[..., ExportedModel]:
    """`fresh("gar", "paper", LayoutConfig("paper"))`: a model of the preset with random weights, `definition` beside it."""

    def make(kind: str, preset: str, layout: LayoutConfig = LayoutConfig()) -> tuple[ExportedModel, ModelDefinition]:
        phones = len(dataset.frontend.phones)
        config = GarConfig(tiny(preset)) if kind == "gar" else NarConfig(tiny(preset))
        definition = ModelDefinition.of(
            lambda key: Gar(config, Vocabulary(phones), key) if kind == "gar" else Nar(config, phones, key)
        )
        rng = np.random.default_rng(3)

        def one(path, leaf):
            centre = 1.0 if path[-1].key == "scale" else 0.0
            spread = 0.1 if path[-1].key in ("scale", "bias") else 32**-0.5
            return rng.normal(centre, spread, leaf.shape).astype(np.float32)

        params = jax.tree.map_with_path(one, definition.shapes)
        codec = {"name": "bundled", "sha256": dataset.info["codec"]["sha256"]}
        return ExportedModel(params, config, layout, dataset.frontend, codec, {}, PROVENANCE), definition

    return make


@pytest.fixture(scope="session")
def trained(fresh: Callable, clips: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ExportedModel]:
    """The same, exported, trained in PyTorch for a few dozen steps on bundled clips, saved there, and read back."""
    train = clips("train")[:8]

    @functools.cache
    def make(kind: str, preset: str, layout: LayoutConfig = LayoutConfig()) -> ExportedModel:
        model, definition = fresh(kind, preset, layout)
        folder = tmp_path_factory.mktemp("trained")
        write_root(folder, "")
        write_model(folder / kind, model, "float32", "")
        modeling = load_modeling(folder)
        module = getattr(modeling, f"load_{kind}")(folder / kind).train()
        utterances = [
            modeling.Utterance(one.phones_P.tolist(), one.durations_P.tolist(), torch.from_numpy(one.codes_Tx8))
            for one in train
        ]
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
        losses = []
        for step in range(STEPS):
            if kind == "gar":
                batch = module.batch(utterances)
            else:
                stages = [2 + (step + at) % 7 for at in range(len(utterances))]
                batch = module.batch(utterances, [20] * len(utterances), stages)
            loss = module.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5  # it has learned something
        modeling.save(module, folder / "saved")
        params = from_torch(read_weights(folder / "saved" / WEIGHTS), definition.shapes)
        return ExportedModel(params, model.config, layout, model.frontend, model.codec, {}, PROVENANCE)

    return make


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Path]:
    """`exported(model, …, dtype="float32")`: a folder that holds these models."""

    def make(*models: ExportedModel, dtype: str = "float32") -> Path:
        write_root(tmp_path, "")
        for model in models:
            write_model(tmp_path / model.kind, model, dtype, "")
        return tmp_path

    return make
