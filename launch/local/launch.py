"""`ellav launch local`: one run on several processes of this machine, with one log and one end.

The processes start at once, and import what training needs while this one checks what was asked for; they wait for its word.
So what the check needs is imported late here.
"""

import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from ellav_jax.errors import InputError, RunError
from launch.jobs.description import JobDescription, environment_of, job_name
from launch.local.accelerators import VISIBLE, check_no_tpus, split_gpus, visible_gpus
from launch.local.watch import Failure, Watch
from launch.processes.local_processes import LocalProcesses, free_address
from launch.processes.rank_log import RankLog
from launch.source_tree import source_state

_PYTHON = (sys.executable, "-m")
_USAGE = "ellav launch local prompts_small.gar --processes 2 --data DIR --workdir W"


@dataclasses.dataclass(frozen=True)
class LocalArguments:
    """All that is not an option of `ellav launch local` goes to `ellav train`."""

    processes: Annotated[int, arg(metavar="N")]
    """Of the run, all on this machine. Its GPUs, or its cores, are split among them."""
    data: Annotated[tuple[str, ...], arg(metavar="DIR[:WEIGHT]"), tyro.conf.UseAppendAction]
    """As in `ellav train`: once for each data set."""
    workdir: Annotated[Path, arg(metavar="W")]
    """Work directory; a run in it is continued."""
    init_from: Annotated[Path | None, arg(metavar="W")] = None
    """As in `ellav train`."""
    devices_per_process: Annotated[int | None, arg(metavar="K")] = None
    """GPUs of each, or CPU devices; without it an equal share of the GPUs, or of the cores, as far as they divide mesh and
    rows."""
    name: str | None = None
    """Of the job's description, W/launches/NAME.json; made from the experiment's where none is given."""
    env: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE"), tyro.conf.UseAppendAction] = ()
    """Variable of the processes' environment, besides those of this one; may be given again."""
    dry_run: bool = False
    """Check all of it, print the commands, and run nothing."""


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav launch local EXPERIMENT --processes N --data DIR --workdir W [OPTION …] [--FIELD VALUE …]`.

    Raises InputError before anything begins, or as the processes say; RunError where one fails. Ends with the status of the
    process that failed first.
    """
    if not arguments or arguments[0].startswith("-"):
        if not set(arguments) & {"-h", "--help"}:
            raise InputError(f"ellav launch local wants the experiment first: {_USAGE}")
        arguments = ["EXPERIMENT", "--help"]
    experiment, *rest = arguments
    options, overrides = tyro.cli(
        LocalArguments,
        args=rest,
        prog=f"ellav launch local {experiment}",
        description="One run on several processes of this machine. Fields of the experiment are options too: ellav train "
        "EXPERIMENT --help.",
        return_unknown_args=True,
    )
    job = _describe(experiment, options, overrides)
    environment = {**os.environ, **job.environment}
    gpus = _gpus_of_each(options, environment)
    commands, variables = zip(*_processes(job, gpus), strict=True)
    if options.dry_run:
        _, word = _check(job, options, gpus, environment)
        _show(commands, variables, word)
        return
    log = RankLog(sys.stdout, sys.stderr)
    started = [[*_PYTHON, "launch.local.rank", *command] for command in commands]
    with LocalProcesses(started, [environment | own for own in variables]) as processes:
        job, word = _check(job, options, gpus, environment)
        path = job.save_in_workdir()
        log.notice(f"{job.processes} processes on {job.hardware}; described in {path}")
        if job.processes > (cores := len(os.sched_getaffinity(0))):
            log.notice(f"{job.processes} processes share {cores} cores")
        processes.begin(word)
        outcome = Watch(processes, log).to_end()
    if outcome.failure is not None:
        _fail(outcome.failure)
    if outcome.interrupted:
        raise KeyboardInterrupt


def _describe(experiment: str, options: LocalArguments, overrides: Sequence[str]) -> JobDescription:
    """The job, as far as it is known before it is checked."""
    if options.processes < 1:
        raise InputError(f"--processes {options.processes}: expected 1 or more")
    if options.devices_per_process is not None and options.devices_per_process < 1:
        raise InputError(f"--devices-per-process {options.devices_per_process}: expected 1 or more")
    if not options.data:
        raise InputError(f"ellav launch local {experiment}: no data set; give --data DIR, once for each data set")
    return JobDescription(
        name=job_name(options.name, experiment),
        target="local",
        experiment=experiment,
        data=options.data,
        workdir=str(options.workdir),
        init_from=None if options.init_from is None else str(options.init_from),
        overrides=tuple(overrides),
        hardware="",
        processes=options.processes,
        environment=environment_of(options.env),
        secrets=(),
        image=None,
        **source_state(),
    )


def _gpus_of_each(options: LocalArguments, environment: Mapping[str, str]) -> list[list[str]]:
    """Names of the GPUs of each process; none where the job runs on the CPUs."""
    if options.processes > 1:
        check_no_tpus(environment)
    gpus = visible_gpus(environment)
    return split_gpus(gpus, options.processes, options.devices_per_process) if gpus else []


def _processes(job: JobDescription, gpus: list[list[str]]) -> list[tuple[list[str], dict[str, str]]]:
    """`train …` of each process, and what its environment has besides that of this one."""
    command = ["train", job.experiment]
    for data in job.data:
        command += ["--data", data]
    command += ["--workdir", job.workdir]
    if job.init_from is not None:
        command += ["--init-from", job.init_from]
    command += job.overrides
    processes = []
    address = free_address()
    for index in range(job.processes):
        group, variables = [], dict(job.environment)
        if job.processes > 1:
            group = ["--coordinator", address, "--num-processes", str(job.processes), "--process-id", str(index)]
            # Else JAX listens to all networks of this machine.
            variables["JAX_COORDINATOR_BIND_ADDRESS"] = address
        if gpus:
            variables[VISIBLE] = ",".join(gpus[index])
        processes.append(([*command, *group], variables))
    return processes


def _check(
    job: JobDescription, options: LocalArguments, gpus: list[list[str]], environment: Mapping[str, str]
) -> tuple[JobDescription, str]:
    """→ the job with its hardware, and the number of CPU devices to tell each process, as a word. Raises InputError."""
    from launch.jobs.options import RunArguments, check_experiment
    from launch.local import check

    check.use_no_accelerator()
    experiment = check_experiment(job.experiment, RunArguments(job.data, job.workdir), job.overrides)
    check.check_data(job.data)
    check.check_workdir(options.workdir)
    word = ""
    if gpus:
        hardware = check.gpus_of(experiment, sum(map(len, gpus)))
    else:
        hardware, number = check.cpus_of(experiment, job.processes, options.devices_per_process, environment)
        word = "" if number is None else str(number)
    return dataclasses.replace(job, hardware=hardware.name), word


def _show(commands: Sequence[Sequence[str]], variables: Sequence[Mapping[str, str]], word: str) -> None:
    for command, own in zip(commands, variables, strict=True):
        told = {"JAX_NUM_CPU_DEVICES": word} if word else {}
        assignments = [f"{name}={shlex.quote(value)}" for name, value in {**own, **told}.items()]
        print(" ".join([*assignments, shlex.join([*_PYTHON, "launch.cli", *command])]))


def _fail(failure: Failure) -> None:
    if failure.status == 2 and failure.refused:
        raise InputError(f"{failure.refused} (rank {failure.rank})")
    said = failure.refused or failure.last
    message = f"{failure.how}, before any other{f': {said}' if said else ''}"
    if failure.status < 0:
        message += "; the same command continues from the last checkpoint"
    if failure.exit_status == 1:
        raise RunError(message)
    print(f"ellav: error: {message}", file=sys.stderr)
    raise SystemExit(failure.exit_status)
