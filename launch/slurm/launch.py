"""`ellav launch slurm`: training as a job of a Slurm cluster."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax

from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from launch.jobs.description import (
    FILE,
    JobDescription,
    check_secrets,
    environment_of,
    job_name,
    require_secrets,
    train_command,
)
from launch.jobs.options import JobArguments, RunArguments, check_experiment, parse, split_off_experiment
from launch.jobs.storage import split_weight
from launch.jobs.text import json_text
from launch.slurm.options import SlurmArguments, check_nodes
from launch.slurm.prepare import launch_prepare
from launch.slurm.script import SCRATCH, Script
from launch.slurm.submit import JOB_SCRIPT, submit
from launch.source_tree import source_state


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav launch slurm EXPERIMENT --data DIR … --workdir W [OPTION …] [--FIELD VALUE …]`, or
    `ellav launch slurm prepare CORPUS OUT [OPTION …]`."""
    name, arguments = split_off_experiment(
        "slurm", arguments, "librispeech.gar --data DIR --workdir W --nodes 2 --gpus-per-node h100:8 --time 1-0"
    )
    if name == "prepare":
        launch_prepare(arguments)
    else:
        _launch_training(name, arguments)


def _launch_training(name: str, arguments: Sequence[str]) -> None:
    about = "A job of a Slurm cluster. Fields of the experiment are options too: ellav train EXPERIMENT --help."
    (run, common, options), overrides = parse(
        f"ellav launch slurm {name}", about, arguments, RunArguments, JobArguments, SlurmArguments
    )
    # Models are only described here; an accelerator of this machine stays free for who runs on it.
    jax.config.update("jax_platforms", "cpu")
    experiment = check_experiment(name, run, overrides)
    options.check()
    environment = environment_of(common.env)
    nodes = check_nodes(experiment, options, environment)
    check_secrets(common.secret)
    require_secrets(common.secret, os.environ)
    places, weights = zip(*map(split_weight, run.data), strict=True)
    places = [_absolute(place) for place in places]
    job = JobDescription(
        name=job_name(common.name, name),
        target="slurm",
        experiment=name,
        data=tuple(place + weight for place, weight in zip(places, weights, strict=True)),
        workdir=_absolute(run.workdir),
        init_from=run.init_from and _absolute(run.init_from),
        overrides=tuple(overrides),
        hardware=nodes.name,
        processes=options.nodes * options.tasks,
        environment=environment,
        secrets=common.secret,
        image=options.image,
        **source_state(),
    )
    out = (common.out / job.name).absolute()
    read = [f"{SCRATCH}/data-{index}" for index in range(len(places))] if options.scratch else places
    data = [place + weight for place, weight in zip(read, weights, strict=True)]
    group = ["--distributed"] if job.processes > 1 else []
    if options.gpus > 1 and options.tasks == 1 and options.nodes > 1:
        # JAX gives each process of a Slurm job the one GPU of its number, unless it is told.
        environment = environment | {"JAX_LOCAL_DEVICE_IDS": ",".join(map(str, range(options.gpus)))}
    used = [*([] if options.scratch else places), job.workdir, str(out), *([job.init_from] if job.init_from else [])]
    script = Script(
        options=options.of_sbatch(job.name, out),
        out=out,
        nodes=options.nodes,
        tasks_per_node=options.tasks,
        cpus_per_task=options.cpus_per_task,
        command=train_command(job, data, job.workdir, job.init_from, str(out), group, options.program),
        environment=environment,
        requeue=options.requeue,
        restarts=options.restarts,
        container=options.in_container(used),
        scratch=options.scratch,
        copied=places,
    )
    files = {JOB_SCRIPT: script.text(), FILE: json_text(job.to_json())}
    if path := job.experiment_file:
        files[path.name] = path.read_text(encoding="utf-8")
    submit(files, out, common.dry_run, options.follow, lambda: _look(job, places))


def _look(job: JobDescription, places: Sequence[str]) -> None:
    """Opens the data sets, and puts the description into the work directory. Raises InputError where one of them fails."""
    for place in places:
        Dataset.open(Path(place))
    if job.init_from and not Path(job.init_from).exists():
        raise InputError(f"--init-from {job.init_from}: there is nothing of that name")
    job.save_in_workdir()


def _absolute(place: str) -> str:
    return str(Path(place).absolute())
