"""A Slurm job's log as it grows, and what became of the job."""

import re
import subprocess
import sys
import time
from pathlib import Path

from ellav_jax.errors import InputError, RunError

_ENDED = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
    *("PREEMPTED", "REVOKED"),
)


def follow(job: str, log: Path, poll_seconds: float = 2.0) -> None:
    """Prints the log until the job has ended; a job that goes back into the queue has not.

    Raises InputError for a job that ended over bad input, RunError for one that failed.
    """
    told, position = "", 0
    while True:
        state, why, status = _state(job)
        position = _print_from(log, position)
        if state != told:
            print(f"slurm: job {job} is {state}{f' ({why})' if why else ''}", file=sys.stderr, flush=True)
            told = state
        if state in _ENDED:
            break
        time.sleep(poll_seconds)
    # A shared file system shows the last lines late.
    time.sleep(min(poll_seconds, 1.0))
    _print_from(log, position)
    if state == "COMPLETED":
        return
    if (state, status) == ("FAILED", "2"):
        raise InputError(f"job {job} ended over bad input; what it said is above, and in {log}")
    with_status = f" with status {status}" if status not in ("", "0") else ""
    raise RunError(f"job {job} is {state}{with_status}; what it said is above, and in {log}")


def _state(job: str) -> tuple[str, str, str]:
    """State, reason where there is one, and exit status of the job's script."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
    if "Invalid job id" in done.stderr:
        raise RunError(f"Slurm no longer knows job {job}; see `sacct --jobs={job}`, if the cluster keeps accounts")
    fields = dict(re.findall(r"(\w+)=(\S*)", done.stdout))
    why = fields.get("Reason", "None")
    # A controller that doesn't answer now will do so later.
    return (
        fields.get("JobState", "UNKNOWN"),
        "" if why == "None" else why,
        fields.get("ExitCode", ":").partition(":")[0],
    )


def _print_from(log: Path, position: int) -> int:
    """Prints what the log has behind this byte, and returns its end."""
    if not log.exists():
        return position
    with open(log, "rb") as file:
        file.seek(position)
        sys.stdout.write(file.read().decode("utf-8", errors="replace"))
        sys.stdout.flush()
        return file.tell()
