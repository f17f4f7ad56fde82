"""Hands a job's script to Slurm."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ellav_jax.errors import InputError, RunError
from launch.jobs.description import FILE
from launch.jobs.plan import Check, LaunchPlan, carry_out, show
from launch.slurm.follow import follow

JOB_SCRIPT = "job.sh"
LAST_SCRIPT = "last.sh"
"""Of a job that begins when all jobs of an array have succeeded."""


def submit(
    files: Mapping[str, str], out: Path, dry_run: bool, follow_log: bool, prepare_places: Callable[[], None]
) -> None:
    """Writes the files, has Slurm check and take the job, and shows its log.

    Where LAST_SCRIPT is among the files, JOB_SCRIPT is an array of jobs that it waits for, and its log is shown.
    prepare_places: looks at what the job will read and makes what it will write. Raises InputError where it, or Slurm, does
    not like what it sees, before anything is submitted; and as `follow` does.
    """
    scripts = [str(out / name) for name in (JOB_SCRIPT, LAST_SCRIPT) if name in files]
    checks = [Check(["sbatch", "--test-only", script], "Slurm does not take this job") for script in scripts]
    commands = [_command(scripts[0], None), *(_command(script, "JOB") for script in scripts[1:])]
    plan = LaunchPlan(dict(files), checks, commands, [f"the log: slurm-JOB{'_*' if scripts[1:] else ''}.log beside it"])
    if dry_run:
        show(plan, out)
        return
    if shutil.which("sbatch") is None:
        raise InputError(
            "sbatch is not on PATH; give this command on a machine that submits jobs, or see with --dry-run what would be "
            "submitted"
        )
    prepare_places()
    # sbatch is asked for the job's number, so it is called here.
    carry_out(dataclasses.replace(plan, commands=[], notes=[]), out)
    array = None
    job = _submit(_command(scripts[0], None))
    print(f"job {job}, described in {out / FILE}", file=sys.stderr)
    for script in scripts[1:]:
        array = job
        print(_ways(array, f"{shlex.quote(str(out))}/slurm-{array}_*.log"), file=sys.stderr, flush=True)
        try:
            job = _submit(_command(script, array))
        except RunError as error:
            raise RunError(f"{error}; job {array} is submitted already: scancel {array}") from None
        print(f"job {job}, when all jobs of {array} have succeeded; else it is cancelled", file=sys.stderr)
    log = out / f"slurm-{job}.log"
    ways = _ways(job, shlex.quote(str(log)))
    print(ways, file=sys.stderr, flush=True)
    if not follow_log:
        return
    try:
        follow(job, log)
    except KeyboardInterrupt:
        print(f"\njob {job} goes on\n{ways}", file=sys.stderr)
    except RunError as error:
        if array is None:
            raise
        raise RunError(
            f"{error}; of the jobs before it: {out}/slurm-{array}_*.log; the same command continues"
        ) from None


def _command(script: str, after: str | None) -> list[str]:
    waiting = [] if after is None else ["--kill-on-invalid-dep=yes", f"--dependency=afterok:{after}"]
    return ["sbatch", "--parsable", *waiting, script]


def _submit(command: Sequence[str]) -> str:
    """The job's number."""
    print(f"+ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"sbatch failed with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def _ways(job: str, log: str) -> str:
    return (
        f"follow: tail -F {log}\n"
        f"stop:   scancel --batch --signal=USR2 {job}   (it saves what it has; the same command continues)\n"
        f"cancel: scancel {job}"
    )
