"""`ellav plan`: compiles an experiment's training step for TPUs that need not be there, and estimates its time."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from tyro.conf import arg

from configs.experiment import Experiment, find_experiment
from ellav_jax.errors import InputError
from ellav_jax.files import write_json
from ellav_jax.hardware import Topology, find_topology
from ellav_jax.planning.aot import DoesNotFit
from launch.planning.child import compile_elsewhere
from launch.planning.content import step_content, workload_of
from launch.planning.point import Point
from launch.planning.table import describe, search_table

REMATS = ("none", "dots", "attention", "full")
BATCH_FACTORS = (1, 2, 4)
MEMORY_SHARE = 0.8
"""Of a device's memory: what a search lets a point use, so that held-out evaluation and samples find room beside it."""


@dataclasses.dataclass(frozen=True)
class PlanArguments:
    """Options of `ellav plan EXPERIMENT`; those below them are the experiment's own fields."""

    topology: Annotated[str, arg(metavar="NAME")]
    """v4-N or v5p-N (N TensorCores, two to a chip), v5e-N or v6e-N (N chips); 2xv5p-256 for two slices."""
    search: bool = False
    """Compile for 1, 2 and 4 times the batch under every remat policy, and print a table."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the figures to FILE as well."""
    experiment: Annotated[Experiment, arg(name="")] = tyro.MISSING


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav plan EXPERIMENT --topology NAME [--search] [--FIELD VALUE …]`."""
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print("usage: ellav plan EXPERIMENT --topology NAME [--search] [--json FILE] [--FIELD VALUE …]\n")
            print("EXPERIMENT is FILE.FUNCTION of configs/ (prompts_small.gar) or PATH.py:FUNCTION; NAME is v5p-256, …")
            print("ellav plan EXPERIMENT --help lists the experiment's fields and their values.")
            return
        raise InputError("ellav plan wants the experiment first: ellav plan librispeech_pod.gar --topology v5p-256")
    # The models are only described here, on the CPU; an accelerator of this machine stays free for who runs on it.
    jax.config.update("jax_platforms", "cpu")
    name, *rest = arguments
    chosen = tyro.cli(
        PlanArguments,
        args=rest,
        prog=f"ellav plan {name}",
        default=PlanArguments(tyro.MISSING, experiment=find_experiment(name)),
        config=(tyro.conf.AvoidSubcommands,),
    )
    topology = find_topology(chosen.topology)
    experiment = chosen.experiment
    # A mesh or a batch that does not fit the topology shows here, before anything is compiled.
    workload_of(experiment, topology)
    console = Console(soft_wrap=True, highlight=False)
    if chosen.search:
        points = list(search(experiment, topology))
        console.print(search_table(points, topology, MEMORY_SHARE))
    else:
        points = [plan(experiment, topology)]
        console.print(describe(points[0], name, topology), markup=False)
    if chosen.json:
        write_json(chosen.json, {"experiment": name, "points": [point.to_json() for point in points]})
    if not chosen.search and points[0].does_not_fit:
        raise points[0].does_not_fit


def plan(experiment: Experiment, topology: Topology) -> Point:
    """Compiles the experiment's step in a process of its own and puts its figures together."""
    compiled = does_not_fit = None
    try:
        compiled = compile_elsewhere(experiment, topology.name)
    except DoesNotFit as error:
        does_not_fit = error
    workload = workload_of(experiment, topology)
    return Point(topology, workload, step_content(experiment), compiled, does_not_fit)


def search(experiment: Experiment, topology: Topology) -> Iterator[Point]:
    """Points of batch × remat policy; a batch that does not fit ends the larger ones of its policy."""
    for remat in REMATS:
        for factor in BATCH_FACTORS:
            data = dataclasses.replace(experiment.data, batch_rows=factor * experiment.data.batch_rows)
            point = plan(_with(dataclasses.replace(experiment, data=data), remat=remat), topology)
            said = "does not fit" if point.compiled is None else f"{point.compiled.compile_seconds:.0f} s"
            print(f"remat {remat}, {data.batch_rows} rows: {said}", file=sys.stderr, flush=True)
            yield point
            if point.does_not_fit:
                break


def _with(experiment: Experiment, **changes: Any) -> Experiment:
    """The experiment with fields of its transformer changed."""
    transformer = dataclasses.replace(experiment.model.transformer, **changes)
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, transformer=transformer))
