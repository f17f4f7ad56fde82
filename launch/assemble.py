"""From an experiment and its data sets to what the training loop runs."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from configs.experiment import Experiment
from configs.trained import define_model, read_trained
from data_pipelines.loader import Batches, Rows, epoch_batches, gar_rows, nar_rows, own_rows
from data_pipelines.mixture import MixedRows
from data_pipelines.records import Dataset
from ellav_jax.codec import load_codec_weights
from ellav_jax.codec.quantizer import stack_codebooks
from ellav_jax.errors import InputError
from ellav_jax.flops import gar_step_flops, nar_step_flops
from ellav_jax.hardware import hardware_name
from ellav_jax.models.definition import ModelDefinition, Params
from ellav_jax.models.nar import NUM_LAYERS
from ellav_jax.sharding import make_mesh
from ellav_jax.training.checkpoint import Card, load_params
from ellav_jax.training.losses import gar_sums, nar_sums
from ellav_jax.training.run import Run
from ellav_jax.training.step import Steps, make_steps
from ellav_jax.vocabulary import NUM_CODES


def say(line: str) -> None:
    """A line for people, from process 0 alone."""
    if jax.process_index() == 0:
        print(line, flush=True)


def held_out_split(dataset: Dataset) -> str | None:
    """What a run is evaluated on: dev where there is one, so that test stays unseen."""
    return next((split for split in ("dev", "test") if split in dataset.splits), None)


def codec_of(dataset: Dataset) -> dict[str, str]:
    """Name and sha256 of the codec that the data set holds codes of."""
    return {key: dataset.info["codec"][key] for key in ("name", "sha256")}


def make_card(experiment: Experiment, dataset: Dataset) -> Card:
    """What every checkpoint of a run of `experiment` on `dataset` carries."""
    return {
        "experiment": experiment.to_json(),
        "frontend": dataclasses.asdict(dataset.frontend),
        "codec": codec_of(dataset),
    }


def split_rows(experiment: Experiment, dataset: Dataset, split: str, stage: int | None = None) -> Rows:
    if experiment.kind == "gar":
        return gar_rows(dataset, split, experiment.data, experiment.layout)
    return nar_rows(dataset, split, experiment.data, experiment.layout, experiment.model, stage)


def steps_of(experiment: Experiment, definition: ModelDefinition, mesh: Mesh) -> Steps:
    """The experiment's training step on a mesh. Raises InputError where batch or model does not fit it."""
    config, rows = experiment.train, experiment.data.batch_rows
    if rows % config.accumulate:
        raise InputError(
            f"data.batch_rows {rows} does not divide into train.accumulate {config.accumulate} parts; change one of them"
        )
    experiment.sharding.of_batch(mesh, rows // config.accumulate)
    sums = partial(gar_sums if experiment.kind == "gar" else nar_sums, config=config.loss)
    return make_steps(
        definition,
        sums,
        config.optimizer,
        mesh,
        experiment.sharding,
        steps=config.steps,
        accumulate=config.accumulate,
    )


def make_run(
    experiment: Experiment, datasets: Sequence[Dataset], rows: MixedRows, init_from: Path | None = None
) -> Run:
    """Everything that `train` needs, from an experiment and its data; `rows` are those of the training splits.

    init_from: work directory or checkpoint whose weights a fresh run begins with. Raises InputError.
    """
    mesh, rules = make_mesh(experiment.mesh), experiment.sharding
    codebooks_QxCxE = _codebooks(datasets[0]) if experiment.model.codebook_init else None
    definition = define_model(experiment, len(datasets[0].frontend.phones), codebooks_QxCxE)
    data, model = experiment.data, experiment.model
    stages = [None] if experiment.kind == "gar" else range(2, NUM_LAYERS + 1)
    tested = [(dataset, split) for dataset in datasets if (split := held_out_split(dataset))]
    held_out = [split_rows(experiment, dataset, split, stage) for stage in stages for dataset, split in tested]
    step_flops = gar_step_flops if experiment.kind == "gar" else nar_step_flops
    say(
        f"{experiment.kind}: {definition.num_parameters / 1e6:.1f} M parameters on {mesh.devices.size} × "
        f"{mesh.devices.flat[0].device_kind} ({hardware_name(mesh.devices.flat)}; mesh "
        + " ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
        + f"; {jax.process_count()} process{'es' * (jax.process_count() > 1)})"
    )
    for dataset, part, share in zip(datasets, rows.parts, rows.shares, strict=True):
        drawn = f"; {float(share):.1%} of the rows drawn" if len(datasets) > 1 else ""
        say(f"{dataset.path}: {part.plan.rows_per_epoch} rows an epoch, {part.plan.fill:.1%} full{drawn}")
    plans = [(dataset, "train", part.plan) for dataset, part in zip(datasets, rows.parts, strict=True)]
    plans += [(dataset, split, part.plan) for (dataset, split), part in zip(tested, held_out, strict=False)]
    for dataset, split, plan in plans:
        if plan.too_long:
            say(
                f"{dataset.path}, {split}: {plan.too_long} of {len(plan.lengths_N)} utterances are longer than a row "
                "and left out"
            )
    batch_sharding = rules.of_batch(mesh, data.batch_rows)
    own = own_rows(batch_sharding, data.batch_rows)
    return Run(
        steps=steps_of(experiment, definition, mesh),
        params=None if init_from is None else _starting_weights(init_from, experiment, datasets[0]),
        batches=lambda next_row: Batches(rows, next_row=next_row, own=own),
        held_out=lambda: itertools.chain.from_iterable(epoch_batches(part, own) for part in held_out),
        flops=lambda lengths, targets: step_flops(model.transformer, lengths, targets),
        frames=_frames,
        frame_rate=datasets[0].info["codec"]["frame_rate"],
        batch_sharding=batch_sharding,
        card=make_card(experiment, datasets[0]),
        say=say,
    )


def _starting_weights(path: Path, experiment: Experiment, dataset: Dataset) -> Callable[[Params], Params]:
    """Checks that the weights at `path` are of this kind of model, for this data; their shapes are checked as they load."""
    trained = read_trained(path, experiment.kind)
    trained.frontend.check_same(dataset.frontend, f"--init-from {path} and {dataset.path}")
    if trained.codec != codec_of(dataset):
        raise InputError(
            f"--init-from {path} was trained on codes of {trained.codec}, {dataset.path} holds those of "
            f"{codec_of(dataset)}; prepare the data set with the same codec"
        )

    def load(params: Params) -> Params:
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), params)
        say(f"weights from {trained.path}")
        return load_params(trained.path, abstract)

    return load


def _codebooks(dataset: Dataset) -> np.ndarray:
    """The codebooks of the data's codec, [Q, 1024, 128]. Raises InputError when its weights aren't at hand."""
    name = dataset.info["codec"]["name"]
    weights = load_codec_weights(name)
    if weights.sha256 != dataset.info["codec"]["sha256"]:
        raise InputError(
            f"codec {name} has changed since {dataset.path} was prepared with it; prepare the data set again"
        )
    return stack_codebooks(weights.arrays)


def _frames(batch: dict[str, np.ndarray]) -> int:
    if "is_frame" in batch:
        return int(batch["is_frame"].sum())
    return int(np.sum(batch["loss_mask"] & (batch["targets"] < NUM_CODES)))
