"""`ellav launch slurm prepare`: a data set, made by a job of a Slurm cluster on one node, or by an array on several."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from ellav_jax.errors import InputError
from launch import prepare
from launch.jobs.description import (
    FILE,
    JobDescription,
    check_secrets,
    environment_of,
    job_name,
    require_secrets,
)
from launch.jobs.options import JobArguments, parse
from launch.jobs.text import json_text
from launch.slurm.options import SlurmArguments
from launch.slurm.script import CORES, TASK, Script
from launch.slurm.submit import JOB_SCRIPT, LAST_SCRIPT, submit
from launch.source_tree import source_state


@dataclasses.dataclass(frozen=True)
class ArrayArguments:
    """How many nodes share the work."""

    array: Annotated[int | None, arg(metavar="N")] = None
    """Make the data set in N parts, each a job of an array on a node of its own; one more job puts them together."""


def launch_prepare(arguments: Sequence[str]) -> None:
    """Submits `ellav prepare` with these arguments, which are those of `ellav launch slurm` too.

    A command uses one node, so it is given a whole one, or --cpus-per-task of its cores; an array gives each of its jobs a
    part (--part), and a last job gets the command without.
    """
    about = "ellav prepare on nodes of a Slurm cluster: all cores of each, or --cpus-per-task. Its options are options."
    (common, options, parts), rest = parse(
        "ellav launch slurm prepare CORPUS OUT", about, arguments, JobArguments, SlurmArguments, ArrayArguments
    )
    chosen = tyro.cli(prepare.Arguments, args=rest, prog="ellav prepare")
    options.check()
    if chosen.engine != "local":
        raise InputError("--engine beam: a Beam runner has jobs of its own; give its options to ellav prepare itself")
    if options.nodes * options.tasks != 1 or options.scratch:
        raise InputError(
            "ellav launch slurm prepare is one command on one node; leave --nodes, --tasks-per-node and --scratch out "
            "(--array N uses N nodes)"
        )
    if parts.array is not None and (parts.array < 2 or chosen.part is not None):
        raise InputError(f"--array {parts.array}: expected at least 2 parts, and --part left out")
    environment = environment_of(common.env)
    check_secrets(common.secret)
    require_secrets(common.secret, os.environ)
    cores = options.cpus_per_task or CORES
    workers = [] if "--workers" in [word.partition("=")[0] for word in rest] else ["--workers", str(cores)]
    job = JobDescription(
        name=job_name(common.name, "prepare.data"),
        target="slurm",
        experiment="prepare",
        data=(chosen.corpus,),
        workdir=str(chosen.out.absolute()),
        init_from=None,
        overrides=tuple(rest),
        hardware="cpu",
        processes=parts.array or 1,
        environment=environment,
        secrets=common.secret,
        image=options.image,
        **source_state(),
    )
    out = (common.out / job.name).absolute()
    script = Script(
        options=_of_sbatch(options, job.name, out),
        out=out,
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=cores,
        command=[options.program, "prepare", *rest, *workers],
        environment=environment,
        requeue=options.requeue,
        restarts=options.restarts,
        # Recordings and OUT may be anywhere below; a corpus elsewhere needs --sbatch or the site's own mounts.
        container=options.in_container([str(Path.cwd()), str(chosen.out.absolute().parent), str(out)]),
    )
    texts = {JOB_SCRIPT: script.text()}
    if parts.array is not None:
        # A part writes no data set whose quarantine could be judged.
        command = [options.program, "prepare", *(word for word in rest if word != "--strict"), *workers]
        jobs = dataclasses.replace(
            script,
            options=_of_sbatch(options, job.name, out, parts.array),
            command=[*command, "--part", f"{TASK}/{parts.array}"],
        )
        texts = {JOB_SCRIPT: jobs.text(), LAST_SCRIPT: script.text()}
    files = texts | {FILE: json_text(job.to_json())}
    submit(files, out, common.dry_run, options.follow, lambda: _make_room(chosen.out))


def _of_sbatch(options: SlurmArguments, name: str, out: Path, array: int | None = None) -> dict[str, str | int | None]:
    return options.of_sbatch(name, out, array) | ({} if options.cpus_per_task else {"exclusive": ""})


def _make_room(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: its folder can't be made ({error.strerror})") from None
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise InputError(f"{out}: it can't be written; choose another folder, or mend its permissions")
