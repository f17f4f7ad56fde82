"""`ellav import`: a model that was exported, and perhaps fine-tuned in PyTorch, → a checkpoint."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from configs.experiment import from_json
from configs.trained import define_model
from ellav_jax.errors import InputError
from ellav_jax.export.convert import from_torch
from ellav_jax.export.folder import CONFIG, FRONTEND, WEIGHTS, new_folder, read_config, shape_fields
from ellav_jax.export.safetensors_file import read_weights
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.training.checkpoint import save_params


@dataclasses.dataclass(frozen=True)
class ImportArguments:
    """Makes a checkpoint of FOLDER, for `--gar` and `--nar` of all commands, and for `ellav train … --init-from W`.

    There is no optimizer's state in it, so a run begins with its weights, but does not continue in W.
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """OUT/gar or OUT/nar of `ellav export`, or what `modeling_ellav.save` wrote."""
    workdir: Annotated[Positional[Path], arg(metavar="W")]
    """New or empty folder; the checkpoint becomes W/checkpoints/STEP, with the step of the export."""


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav import`. Raises InputError for a folder that is no export, is damaged, or does not fit its description."""
    args = tyro.cli(ImportArguments, args=list(arguments), prog="ellav import")
    if args.workdir.exists() and (not args.workdir.is_dir() or any(args.workdir.iterdir())):
        raise InputError(f"{args.workdir}: is there already and not empty; choose another folder")
    config = read_config(args.folder)
    where = str(args.folder / CONFIG)
    if config.get("kind") == "codec":
        raise InputError(f"{args.folder}: a codec needs no import; give the folder as --codec {args.folder}")
    if not _complete(config):
        raise InputError(
            f"{where}: lacks what ellav export says of experiment, codec and origin; export the model again"
        )
    experiment = from_json(config["experiment"], where)
    frontend = Frontend.from_json(args.folder / FRONTEND)
    for name, expected in shape_fields(experiment.model, experiment.layout).items():
        if config.get(name) != expected:
            raise InputError(
                f"{where}: {name} is {config.get(name)}, but its experiment has {expected}; the two must agree"
            )
    definition = define_model(experiment, len(frontend.phones))
    weights = read_weights(args.folder / WEIGHTS)
    try:
        params = from_torch(weights, definition.shapes)
    except InputError as error:
        raise InputError(f"{args.folder / WEIGHTS}: {error}") from None
    card = {
        "experiment": experiment.to_json(),
        "frontend": dataclasses.asdict(frontend),
        "codec": config["codec"],
        "provenance": config["provenance"],
    }
    step = config["provenance"].get("step", 0)
    with new_folder(args.workdir) as folder:
        (folder / "checkpoints").mkdir()
        save_params(folder / "checkpoints" / str(step), params, card)
    print(
        f"{args.workdir / 'checkpoints' / str(step)}: {experiment.kind.upper()} of "
        f"{definition.num_parameters / 1e6:.1f} M parameters, from {args.folder}"
    )


def _complete(config: dict[str, Any]) -> bool:
    codec, origin = config.get("codec"), config.get("provenance")
    if not all(isinstance(one, dict) for one in (config.get("experiment"), codec, origin)):
        return False
    return {"name", "sha256"} <= set(codec) and "exported_with" in origin and isinstance(origin.get("step", 0), int)
