"""`ellav train`: an experiment on a prepared data set, in a work directory."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from tyro.conf import arg

from configs.experiment import Experiment, differences, find_experiment
from configs.trained import define_model
from data_pipelines.loader import Batches, epoch_batches, gar_rows, nar_rows
from data_pipelines.records import Dataset
from ellav_jax.codec import load_codec_weights
from ellav_jax.codec.quantizer import stack_codebooks
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_json
from ellav_jax.flops import gar_step_flops, nar_step_flops
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.models.nar import NUM_LAYERS
from ellav_jax.sharding import ShardingRules, make_mesh
from ellav_jax.training.checkpoint import Card
from ellav_jax.training.loop import Run, train
from ellav_jax.training.losses import gar_sums, nar_sums
from ellav_jax.training.optimizer import make_optimizer
from ellav_jax.training.step import make_steps
from ellav_jax.vocabulary import NUM_CODES


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Options of `ellav train EXPERIMENT`; those below them are the experiment's own fields."""

    dataset: Annotated[Path, arg(name="data", metavar="DIR")]
    """Data set that `ellav prepare` wrote."""
    workdir: Annotated[Path, arg(metavar="W")]
    """Work directory: made if it is not there, continued if it is."""
    experiment: Annotated[Experiment, arg(name="")]


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav train EXPERIMENT --data DIR --workdir W [--FIELD VALUE …]`."""
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print("usage: ellav train EXPERIMENT --data DIR --workdir W [--FIELD VALUE …]\n")
            print("EXPERIMENT is FILE.FUNCTION of configs/ (prompts_small.gar) or PATH.py:FUNCTION.")
            print("ellav train EXPERIMENT --help lists the experiment's fields and their values.")
            return
        raise InputError("ellav train wants the experiment first: ellav train prompts_small.gar --data DIR --workdir W")
    name, *rest = arguments
    defaults = find_experiment(name)
    chosen = tyro.cli(
        TrainArguments,
        args=rest,
        prog=f"ellav train {name}",
        default=TrainArguments(tyro.MISSING, tyro.MISSING, defaults),
        config=(tyro.conf.AvoidSubcommands,),
    )
    start(chosen.experiment, Dataset.open(chosen.dataset), chosen.workdir)


def start(experiment: Experiment, dataset: Dataset, workdir: Path) -> dict[str, float]:
    """Starts or continues a run. → its last held-out figures.

    Raises InputError when the data set, the work directory and the experiment do not go together.
    """
    if "test" not in dataset.splits or "train" not in dataset.splits:
        raise InputError(f"{dataset.path}: training wants splits train and test; it has {', '.join(dataset.splits)}")
    card = make_card(experiment, dataset)
    run = make_run(experiment, dataset, card)
    _claim(workdir, card, dataset)
    return train(experiment.train, run, workdir)


def make_card(experiment: Experiment, dataset: Dataset) -> Card:
    """What every checkpoint of a run of `experiment` on `dataset` carries."""
    codec = {key: dataset.info["codec"][key] for key in ("name", "sha256")}
    return {"experiment": experiment.to_json(), "frontend": dataclasses.asdict(dataset.frontend), "codec": codec}


def make_run(experiment: Experiment, dataset: Dataset, card: Card) -> Run:
    """Everything that `train` needs, from an experiment and its data."""
    mesh = make_mesh(experiment.mesh)
    rules = ShardingRules()
    codebooks_QxCxE = _codebooks(dataset) if experiment.model.codebook_init else None
    definition = define_model(experiment, len(dataset.frontend.phones), codebooks_QxCxE)
    data, layout, model = experiment.data, experiment.layout, experiment.model
    if experiment.kind == "gar":
        rows = gar_rows(dataset, "train", data, layout)
        held_out = [gar_rows(dataset, "test", data, layout)]
    else:
        rows = nar_rows(dataset, "train", data, layout, model)
        held_out = [nar_rows(dataset, "test", data, layout, model, stage) for stage in range(2, NUM_LAYERS + 1)]
    optimizer = make_optimizer(experiment.train.optimizer, experiment.train.steps, definition.axes)
    sums, step_flops = (gar_sums, gar_step_flops) if experiment.kind == "gar" else (nar_sums, nar_step_flops)
    _say(
        f"{experiment.kind}: {definition.num_parameters / 1e6:.1f} M parameters on {mesh.devices.size} × "
        f"{mesh.devices.flat[0].device_kind}; "
        f"{rows.plan.rows_per_epoch} rows an epoch, {rows.plan.fill:.1%} full"
    )
    for split, plan in (("train", rows.plan), ("test", held_out[0].plan)):
        if plan.too_long:
            _say(f"{split}: {plan.too_long} of {len(plan.lengths_N)} utterances are longer than a row and left out")
    process = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    return Run(
        steps=make_steps(definition, sums, optimizer, mesh, rules),
        batches=lambda next_row: Batches(rows, next_row=next_row, **process),
        held_out=lambda: itertools.chain.from_iterable(epoch_batches(rows, **process) for rows in held_out),
        flops=lambda lengths, targets: step_flops(model.transformer, lengths, targets),
        frames=_frames,
        frame_rate=dataset.info["codec"]["frame_rate"],
        batch_sharding=rules.of_batch(mesh, data.batch_rows),
        card=card,
        say=_say,
    )


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


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(line, flush=True)


def _claim(workdir: Path, card: dict[str, Any], dataset: Dataset) -> None:
    """Makes the work directory, or checks that the run in it is this one; the fields of `train` and `mesh` may change."""
    description = workdir / "experiment.json"
    utterances = _digest(dataset)
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir}: a file is in the way; --workdir wants a directory")
    if description.exists():
        old = read_json(description, "description of a run")
        Frontend.from_json(workdir / "frontend.json").check_same(dataset.frontend, f"{workdir} and {dataset.path}")
        for part in ("layout", "model", "data", "kind"):
            changed = differences({part: old["experiment"].get(part)}, {part: card["experiment"][part]})
            if changed:
                raise InputError(f"{workdir} holds another run ({'; '.join(changed)}); choose another --workdir")
        if old["codec"] != card["codec"]:
            raise InputError(f"{workdir} was trained on codec {old['codec']}, {dataset.path} has {card['codec']}")
        if old.get("utterances") != utterances:
            raise InputError(
                f"{workdir} was trained on other utterances than those of {dataset.path}; choose another --workdir"
            )
        for line in differences(old["experiment"], card["experiment"]):
            _say(f"changed since this run began: {line}")
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise InputError(f"{workdir}: not empty and not a work directory of ellav train; choose another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    dataset.frontend.to_json(workdir / "frontend.json")
    write_json(description, card | {"utterances": utterances})


def _digest(dataset: Dataset) -> str:
    """SHA-256 of the training utterances' ids and lengths: what the row numbers of a resumed run refer to."""
    phones, frames = dataset.lengths("train")
    return hashlib.sha256(repr([dataset.ids("train"), phones.tolist(), frames.tolist()]).encode()).hexdigest()
