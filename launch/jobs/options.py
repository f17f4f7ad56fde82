"""The options that the targets of `ellav launch` have in common, and what is checked of them here."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from configs.experiment import Experiment, find_experiment
from ellav_jax.errors import InputError
from launch.jobs.description import LAUNCHES
from launch.processes.distributed import ProcessGroup
from launch.train import TrainArguments


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """What a training run is given. All that is not an option of `ellav launch` goes to `ellav train`."""

    data: Annotated[tuple[str, ...], arg(metavar="URL[:WEIGHT]"), tyro.conf.UseAppendAction]
    """Data set that `ellav prepare` wrote, where the job can mount it (slurm: a directory); once for each of a mixture, as
    in `ellav train`."""
    workdir: Annotated[str, arg(metavar="URL")]
    """Work directory, where the job can mount it (slurm: a directory); a run in it is continued."""
    init_from: Annotated[str | None, arg(metavar="URL")] = None
    """As in `ellav train`."""


@dataclasses.dataclass(frozen=True)
class JobArguments:
    """What every job is given."""

    name: str | None = None
    """Of the job; made from the experiment's where none is given."""
    env: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE"), tyro.conf.UseAppendAction] = ()
    """Variable of the job's environment; may be given again."""
    secret: Annotated[tuple[str, ...], arg(metavar="NAME"), tyro.conf.UseAppendAction] = ()
    """Variable whose value is written to no file here; may be given again. docs/launching.md says where each target takes
    it from."""
    out: Annotated[Path, arg(metavar="DIR")] = Path(LAUNCHES)
    """What is generated is kept in DIR/NAME."""
    dry_run: bool = False
    """Print what would be written and run, and do neither."""


def parse(command: str, about: str, arguments: Sequence[str], *parts: type) -> tuple[list[Any], list[str]]:
    """The options of each part, and the arguments that are left, for what the job runs. about: what is launched."""
    options = dataclasses.make_dataclass(
        "Options", [(part.__name__, Annotated[part, arg(name="")]) for part in parts], frozen=True
    )
    chosen, rest = tyro.cli(options, args=arguments, prog=command, description=about, return_unknown_args=True)
    return [getattr(chosen, part.__name__) for part in parts], rest


def split_off_experiment(target: str, arguments: Sequence[str], example: str) -> tuple[str, list[str]]:
    """The experiment, which comes first, and the other arguments. Raises InputError, with the example, where it doesn't."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    if set(arguments) & {"-h", "--help"}:
        return "EXPERIMENT", ["--help"]
    raise InputError(f"ellav launch {target} wants the experiment first: ellav launch {target} {example}")


def check_experiment(name: str, run: RunArguments, overrides: Sequence[str]) -> Experiment:
    """The experiment with its overrides, refused here as `ellav train` would refuse them there."""
    if not run.data:
        raise InputError(f"ellav launch … {name}: no data set; give --data URL, once for each data set")
    chosen = tyro.cli(
        TrainArguments,
        args=["--data", run.data[0], "--workdir", run.workdir, *overrides],
        prog=f"ellav launch … {name}",
        default=TrainArguments((), tyro.MISSING, experiment=find_experiment(name)),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if dataclasses.replace(chosen.processes, start_timeout=0) != ProcessGroup(start_timeout=0):
        raise InputError(
            "--distributed, --coordinator, --num-processes and --process-id are set by ellav launch; leave them out"
        )
    return chosen.experiment
