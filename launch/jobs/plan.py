"""A launch, worked out: the files to write, what to check first, and the commands that submit the job."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ellav_jax.errors import InputError, RunError
from ellav_jax.files import write_bytes
from launch.jobs.description import FILE, LAUNCHES, JobDescription
from launch.jobs.storage import copy_command, list_command, split_weight

INSTALLATION = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "sky": "pip install 'skypilot[gcp]'",
    "aws": "https://docs.aws.amazon.com/cli",
}


@dataclasses.dataclass(frozen=True)
class Check:
    """A command to run before anything is submitted. problem: what is said where it fails, or, if it is to find nothing
    (`absent`), where it prints something."""

    command: Sequence[str]
    problem: str
    absent: bool = False


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """files: name → text, below the directory of generated files. notes: what a person may want to know or do next."""

    files: dict[str, str]
    checks: Sequence[Check]
    commands: Sequence[Sequence[str]]
    notes: Sequence[str]


def storage_checks(job: JobDescription, out: Path) -> list[Check]:
    """That each data set is there and the work directory can be written, by putting the description of the job in it.

    Only buckets can be seen from here.
    """
    checks = []
    for argument in job.data:
        location, _ = split_weight(argument)
        if command := list_command(f"{location}/dataset.json"):
            checks.append(
                Check(command, f"--data {location}: no data set of `ellav prepare` there, or it can't be read")
            )
    if command := copy_command(str(out / FILE), f"{job.workdir}/{LAUNCHES}/{job.name}.json"):
        checks.append(Check(command, f"--workdir {job.workdir}: the bucket can't be written"))
    return checks


def show(plan: LaunchPlan, out: Path) -> None:
    """Prints what `carry_out` would write and run."""
    for name, text in plan.files.items():
        print(f"# {out / name}\n{text}")
    print("# checked first")
    print("".join(f"{shlex.join(check.command)}\n" for check in plan.checks))
    print("# then run")
    print("".join(f"{shlex.join(command)}\n" for command in plan.commands))
    _say(plan.notes)


def carry_out(plan: LaunchPlan, out: Path) -> None:
    """Writes the files, makes the checks and runs the commands.

    Raises InputError where a tool is missing or a check fails, before anything is submitted; RunError where a command fails.
    """
    for tool in dict.fromkeys(command[0] for command in [*(check.command for check in plan.checks), *plan.commands]):
        if shutil.which(tool) is None:
            way = f"; install it ({INSTALLATION[tool]})" if tool in INSTALLATION else ""
            raise InputError(f"{tool} is not on PATH{way}, or see with --dry-run what would be run")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in plan.files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out / name, text.encode())
    for check in plan.checks:
        _check(check)
    for command in plan.commands:
        print(f"+ {shlex.join(command)}", flush=True)
        if status := subprocess.run(command).returncode:
            raise RunError(f"{shlex.join(command[:4])} … failed with status {status}; what it said is above")
    _say(plan.notes)


def _check(check: Check) -> None:
    done = subprocess.run(check.command, capture_output=True, text=True)
    if check.absent:
        if done.returncode == 0 and done.stdout.strip():
            raise InputError(check.problem)
        failed = done.returncode != 0
        problem = f"{shlex.join(check.command[:4])} … failed"
    else:
        failed, problem = done.returncode != 0, check.problem
    if failed:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        # gcloud says behind its error how to mend it.
        said = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise InputError(f"{problem} ({check.command[0]}: {said})")


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)
