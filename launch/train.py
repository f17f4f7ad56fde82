"""`ellav train`: an experiment on prepared data sets, in a work directory."""

import contextlib
import dataclasses
import itertools
import resource
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from tyro.conf import arg

from configs.experiment import Experiment, differences, find_experiment
from configs.trained import define_model
from data_pipelines.loader import Batches, Rows, epoch_batches, gar_rows, nar_rows, own_rows
from data_pipelines.mixture import MixedRows
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

    data: Annotated[tuple[str, ...], arg(name="data", metavar="DIR[:WEIGHT]"), tyro.conf.UseAppendAction]
    """Data set that `ellav prepare` wrote; once for each of a mixture. WEIGHT: share of the positions, in proportion;
    all have one, or none, and then their epochs end together."""
    workdir: Annotated[Path, arg(metavar="W")]
    """Work directory: made if it is not there, continued if it is."""
    experiment: Annotated[Experiment, arg(name="")]


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav train EXPERIMENT --data DIR[:WEIGHT] … --workdir W [--FIELD VALUE …]`."""
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print("usage: ellav train EXPERIMENT --data DIR[:WEIGHT] [--data …] --workdir W [--FIELD VALUE …]\n")
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
        default=TrainArguments((), tyro.MISSING, defaults),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if not chosen.data:
        raise InputError(f"ellav train {name}: no data set; give --data DIR, once for each data set")
    paths, weights = zip(*map(_split_weight, chosen.data), strict=True)
    weighted = None not in weights
    if not weighted and set(weights) != {None}:
        raise InputError(f"--data {' --data '.join(chosen.data)}: give all of them a weight, as in DIR:0.5, or none")
    # A data set keeps a file open for each of its shards.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    start(chosen.experiment, [Dataset.open(path) for path in paths], chosen.workdir, weights if weighted else None)


def _split_weight(argument: str) -> tuple[Path, Fraction | None]:
    """The parts of DIR or DIR:WEIGHT. What exists under the whole name is a DIR, so a name may end in `:1`."""
    path, colon, weight = argument.rpartition(":")
    if colon and not Path(argument).exists():
        with contextlib.suppress(ValueError, ZeroDivisionError):
            return Path(path), Fraction(weight)
    return Path(argument), None


def start(
    experiment: Experiment, datasets: Sequence[Dataset], workdir: Path, weights: Sequence[Fraction] | None = None
) -> dict[str, float]:
    """Starts or continues a run on one data set or several, mixed as `MixedRows` has it. → its last held-out figures.

    Raises InputError when the data sets, the work directory and the experiment do not go together.
    """
    _check_together(datasets)
    card = make_card(experiment, datasets[0])
    rows = MixedRows([_rows(experiment, dataset, "train") for dataset in datasets], weights)
    run = make_run(experiment, datasets, rows, card)
    _claim(workdir, card, datasets, rows)
    return train(experiment.train, run, workdir)


def _check_together(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    for index, other in enumerate(datasets):
        if other.path.resolve() in [dataset.path.resolve() for dataset in datasets[:index]]:
            raise InputError(f"--data {other.path} is given twice; give it once, with the weight that it shall have")
        first.frontend.check_same(other.frontend, f"--data {other.path}, beside {first.path},")
        if _codec(other) != _codec(first):
            raise InputError(
                f"--data {other.path} holds codes of codec {_codec(other)}, {first.path} those of {_codec(first)}; "
                "prepare them with the same codec"
            )
        if "train" not in other.splits:
            raise InputError(f"{other.path}: training wants a split train; it has {', '.join(other.splits)}")
    if not any(map(_held_out_split, datasets)):
        raise InputError(
            f"{', '.join(str(dataset.path) for dataset in datasets)}: training wants a split dev or test as well, to "
            "evaluate on; there is none"
        )


def _held_out_split(dataset: Dataset) -> str | None:
    """What a run is evaluated on: dev where there is one, so that test stays unseen."""
    return next((split for split in ("dev", "test") if split in dataset.splits), None)


def _codec(dataset: Dataset) -> dict[str, str]:
    return {key: dataset.info["codec"][key] for key in ("name", "sha256")}


def make_card(experiment: Experiment, dataset: Dataset) -> Card:
    """What every checkpoint of a run of `experiment` on `dataset` carries."""
    return {
        "experiment": experiment.to_json(),
        "frontend": dataclasses.asdict(dataset.frontend),
        "codec": _codec(dataset),
    }


def _rows(experiment: Experiment, dataset: Dataset, split: str, stage: int | None = None) -> Rows:
    if experiment.kind == "gar":
        return gar_rows(dataset, split, experiment.data, experiment.layout)
    return nar_rows(dataset, split, experiment.data, experiment.layout, experiment.model, stage)


def make_run(experiment: Experiment, datasets: Sequence[Dataset], rows: MixedRows, card: Card) -> Run:
    """Everything that `train` needs, from an experiment and its data; `rows` are those of the training splits."""
    mesh = make_mesh(experiment.mesh)
    rules = ShardingRules()
    codebooks_QxCxE = _codebooks(datasets[0]) if experiment.model.codebook_init else None
    definition = define_model(experiment, len(datasets[0].frontend.phones), codebooks_QxCxE)
    data, model = experiment.data, experiment.model
    stages = [None] if experiment.kind == "gar" else range(2, NUM_LAYERS + 1)
    tested = [(dataset, split) for dataset in datasets if (split := _held_out_split(dataset))]
    held_out = [_rows(experiment, dataset, split, stage) for stage in stages for dataset, split in tested]
    optimizer = make_optimizer(experiment.train.optimizer, experiment.train.steps, definition.axes)
    sums, step_flops = (gar_sums, gar_step_flops) if experiment.kind == "gar" else (nar_sums, nar_step_flops)
    _say(
        f"{experiment.kind}: {definition.num_parameters / 1e6:.1f} M parameters on {mesh.devices.size} × "
        f"{mesh.devices.flat[0].device_kind}"
    )
    for dataset, part, share in zip(datasets, rows.parts, rows.shares, strict=True):
        drawn = f"; {float(share):.1%} of the rows drawn" if len(datasets) > 1 else ""
        _say(f"{dataset.path}: {part.plan.rows_per_epoch} rows an epoch, {part.plan.fill:.1%} full{drawn}")
    plans = [(dataset, "train", part.plan) for dataset, part in zip(datasets, rows.parts, strict=True)]
    plans += [(dataset, split, part.plan) for (dataset, split), part in zip(tested, held_out, strict=False)]
    for dataset, split, plan in plans:
        if plan.too_long:
            _say(
                f"{dataset.path}, {split}: {plan.too_long} of {len(plan.lengths_N)} utterances are longer than a row "
                "and left out"
            )
    batch_sharding = rules.of_batch(mesh, data.batch_rows)
    own = own_rows(batch_sharding, data.batch_rows)
    return Run(
        steps=make_steps(definition, sums, optimizer, mesh, rules),
        batches=lambda next_row: Batches(rows, next_row=next_row, own=own),
        held_out=lambda: itertools.chain.from_iterable(epoch_batches(part, own) for part in held_out),
        flops=lambda lengths, targets: step_flops(model.transformer, lengths, targets),
        frames=_frames,
        frame_rate=datasets[0].info["codec"]["frame_rate"],
        batch_sharding=batch_sharding,
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


def _claim(workdir: Path, card: dict[str, Any], datasets: Sequence[Dataset], rows: MixedRows) -> None:
    """Makes the work directory, or checks that the run in it is this one; the fields of `train` and `mesh` may change."""
    description = workdir / "experiment.json"
    # What the row numbers of a resumed run refer to: the utterances of each data set, their order, and the shares.
    data = [
        {"corpus": dataset.info["corpus"]["name"], "utterances": dataset.digest("train"), "share": str(share)}
        for dataset, share in zip(datasets, rows.shares, strict=True)
    ]
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir}: a file is in the way; --workdir wants a directory")
    if description.exists():
        old = read_json(description, "description of a run")
        where = ", ".join(str(dataset.path) for dataset in datasets)
        Frontend.from_dict(old["frontend"], str(description)).check_same(datasets[0].frontend, f"{workdir} and {where}")
        for part in ("layout", "model", "data", "kind"):
            changed = differences({part: old["experiment"].get(part)}, {part: card["experiment"][part]})
            if changed:
                raise InputError(f"{workdir} holds another run ({'; '.join(changed)}); choose another --workdir")
        if old["codec"] != card["codec"]:
            raise InputError(f"{workdir} was trained on codec {old['codec']}, {where} has {card['codec']}")
        _check_same_data(workdir, old.get("data", []), data, where)
        for line in differences(old["experiment"], card["experiment"]):
            _say(f"changed since this run began: {line}")
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise InputError(f"{workdir}: not empty and not a work directory of ellav train; choose another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    # First what makes it a work directory: stopped behind it, the same command goes on.
    write_json(description, card | {"data": data})
    datasets[0].frontend.to_json(workdir / "frontend.json")


def _check_same_data(workdir: Path, old: list[dict[str, str]], new: list[dict[str, str]], where: str) -> None:
    utterances, asked = ([part["utterances"] for part in data] for data in (old, new))
    if old == new:
        return
    if utterances == asked:
        what = "the same data sets in other shares"
    elif sorted(utterances) == sorted(asked):
        what = "the same data sets in another order"
    else:
        what = f"other utterances than those of {where}"
    mixtures = (
        "; ".join(f"{part['corpus']} {float(Fraction(part['share'])):.2%}" for part in data) for data in (old, new)
    )
    raise InputError(
        f"{workdir} was trained on {what} ({' there, '.join(mixtures)} now); give --data as it was, or choose another "
        "--workdir"
    )
