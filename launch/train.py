"""`ellav train`: an experiment on prepared data sets, in a work directory."""

import contextlib
import dataclasses
import resource
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from configs.experiment import Experiment, find_experiment, list_experiments
from data_pipelines.mixture import MixedRows
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.training.compilation_cache import use_compilation_cache
from ellav_jax.training.loop import train
from launch.assemble import codec_of, held_out_split, make_run, say, split_rows
from launch.cpu_devices import use_cores
from launch.processes import preflight
from launch.processes.distributed import ProcessGroup
from launch.samples import SamplesConfig, make_samples
from launch.workdir import claim
from launch.xla_flags import set_flags


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Options of `ellav train EXPERIMENT`; those below them are the experiment's own fields."""

    data: Annotated[tuple[str, ...], arg(name="data", metavar="DIR[:WEIGHT]"), tyro.conf.UseAppendAction]
    """Data set that `ellav prepare` wrote; once for each of a mixture. WEIGHT: share of the positions, in proportion;
    all have one, or none, and then their epochs end together."""
    workdir: Annotated[Path, arg(metavar="W")]
    """Work directory: made if it is not there, continued if it is."""
    init_from: Annotated[Path | None, arg(metavar="W")] = None
    """Work directory or checkpoint whose weights a fresh run begins with (fine-tuning); a run that has checkpoints of its
    own continues from these."""
    processes: Annotated[ProcessGroup, arg(name="")] = ProcessGroup()
    samples: SamplesConfig = SamplesConfig()
    experiment: Annotated[Experiment, arg(name="")] = tyro.MISSING


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav train EXPERIMENT --data DIR[:WEIGHT] … --workdir W [--FIELD VALUE …]`."""
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print("usage: ellav train EXPERIMENT --data DIR[:WEIGHT] [--data …] --workdir W [--FIELD VALUE …]\n")
            print("EXPERIMENT is FILE.FUNCTION of configs/ or PATH.py:FUNCTION. There are:\n")
            print("".join(f"  {name}\n" for name in list_experiments()))
            print("ellav train EXPERIMENT --help lists the experiment's fields and their values.")
            return
        raise InputError("ellav train wants the experiment first: ellav train prompts_small.gar --data DIR --workdir W")
    name, *rest = arguments
    defaults = find_experiment(name)
    chosen = tyro.cli(
        TrainArguments,
        args=rest,
        prog=f"ellav train {name}",
        default=TrainArguments((), tyro.MISSING, experiment=defaults),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if not chosen.data:
        raise InputError(f"ellav train {name}: no data set; give --data DIR, once for each data set")
    paths, weights = zip(*map(_split_weight, chosen.data), strict=True)
    weighted = None not in weights
    if not weighted and set(weights) != {None}:
        raise InputError(f"--data {' --data '.join(chosen.data)}: give all of them a weight, as in DIR:0.5, or none")
    set_flags()
    if chosen.processes == ProcessGroup():
        use_cores(chosen.experiment.mesh, chosen.experiment.data.batch_rows // chosen.experiment.train.accumulate)
    # A data set keeps a file open for each of its shards.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    alike = {
        "weights of --data": list(map(str, weights)),
        "--init-from": chosen.init_from is not None,
        "--samples.every": chosen.samples.every,
        "--samples.utterances": chosen.samples.utterances,
    }
    datasets = preflight.join(chosen.processes, chosen.experiment, paths, chosen.workdir, alike)
    start(chosen.experiment, datasets, chosen.workdir, weights if weighted else None, chosen.init_from, chosen.samples)


def _split_weight(argument: str) -> tuple[Path, Fraction | None]:
    """The parts of DIR or DIR:WEIGHT. What exists under the whole name is a DIR, so a name may end in `:1`."""
    path, colon, weight = argument.rpartition(":")
    if colon and not Path(argument).exists():
        with contextlib.suppress(ValueError, ZeroDivisionError):
            return Path(path), Fraction(weight)
    return Path(argument), None


def start(
    experiment: Experiment,
    datasets: Sequence[Dataset],
    workdir: Path,
    weights: Sequence[Fraction] | None = None,
    init_from: Path | None = None,
    samples: SamplesConfig = SamplesConfig(),
) -> dict[str, float]:
    """Starts or continues a run on one data set or several, mixed as `MixedRows` has it. → its last held-out figures.

    Raises InputError when the data sets, the work directory and the experiment do not go together.
    """
    _check_together(datasets)
    use_compilation_cache(say)
    rows = MixedRows([split_rows(experiment, dataset, "train") for dataset in datasets], weights)
    run = make_run(experiment, datasets, rows, init_from)
    with claim(workdir, run.card, datasets, rows):
        run = dataclasses.replace(run, samples=make_samples(samples, experiment, datasets, workdir, say))
        return train(experiment.train, run, workdir)


def _check_together(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    for index, other in enumerate(datasets):
        if other.path.resolve() in [dataset.path.resolve() for dataset in datasets[:index]]:
            raise InputError(f"--data {other.path} is given twice; give it once, with the weight that it shall have")
        first.frontend.check_same(other.frontend, f"--data {other.path}, beside {first.path},")
        if codec_of(other) != codec_of(first):
            raise InputError(
                f"--data {other.path} holds codes of codec {codec_of(other)}, {first.path} those of {codec_of(first)}; "
                "prepare them with the same codec"
            )
        if "train" not in other.splits:
            raise InputError(f"{other.path}: training wants a split train; it has {', '.join(other.splits)}")
    if not any(map(held_out_split, datasets)):
        raise InputError(
            f"{', '.join(str(dataset.path) for dataset in datasets)}: training wants a split dev or test as well, to "
            "evaluate on; there is none"
        )
