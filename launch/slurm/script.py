"""The script of a Slurm job: options of sbatch, settings, and the shell that they are for (job.sh)."""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

SCRATCH = "@SCRATCH@"
CORES = "@SLURM_CPUS_ON_NODE@"
TASK = "@SLURM_ARRAY_TASK_ID@"
"""They stand in words of a command for what the node knows: its scratch folder, how many cores the job has there, and which
job of an array it is."""
_HEAD = """# Written by `ellav launch slurm`.
# shellcheck disable=SC2016,SC2054 # quoted text is for the shells of the tasks; commas are pyxis's
"""
_COPY = (
    'mkdir -p "$0" && chmod 700 "$0" || exit; number=0; '
    'for from; do cp -RT "$from" "$0/data-$number" || exit; number=$((number + 1)); done'
)


@dataclasses.dataclass(frozen=True)
class Container:
    """runtime: "pyxis" (an option of srun) or "apptainer" (a program). mounts: folders of the node, seen in the container
    under the same names."""

    runtime: str
    image: str
    mounts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Script:
    """What the script is made of.

    options: of sbatch, without dashes; None leaves one out, "" is an option without a value. out: absolute path of the
    generated files. cpus_per_task: a number, or CORES. command: what each task runs. scratch: folder of a node for a copy
    of `copied`, as the shell on the node reads it ("/local/$USER"), or None. With `array` among
    the options it is an array of jobs.
    """

    options: Mapping[str, str | int | None]
    out: Path
    nodes: int
    tasks_per_node: int
    cpus_per_task: int | str | None
    command: Sequence[str]
    environment: Mapping[str, str]
    requeue: bool
    restarts: int
    container: Container | None = None
    scratch: str | None = None
    copied: Sequence[str] = ()

    def text(self) -> str:
        """The script. shellcheck and `bash -n` take it."""
        options = [
            f"#SBATCH --{name}" + (f"={shlex.quote(str(value))}" if value != "" else "") + "\n"
            for name, value in self.options.items()
            if value is not None
        ]
        lines = ["#!/usr/bin/env bash\n", *options, _HEAD]
        # Programs' output comes when it is said, and not when a buffer is full.
        for name, value in {"PYTHONUNBUFFERED": "1", **self.environment}.items():
            lines.append(f"export {name}={shlex.quote(value)}\n")
        # The number of an array is that of one of its jobs too, and names all of them.
        job = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if self.options.get("array") else "$SLURM_JOB_ID"
        lines.append(f"JOB={job}\n")
        lines.append(f"OUT={shlex.quote(str(self.out))}\n")
        lines.append(f"REQUEUE={'yes' if self.requeue else 'no'}\n")
        lines.append(f"RESTARTS={self.restarts}\n")
        if self.scratch:
            # A variable that the node lacks ends the job: what is made of the rest is removed behind the run.
            lines.append(f'set -u\nSCRATCH="{self.scratch}/ellav-$SLURM_JOB_ID"\n')
        copy: list[str] = []
        clear: list[str] = []
        if self.scratch:
            once = ["srun", f"--nodes={self.nodes}", f"--ntasks={self.nodes}", "--ntasks-per-node=1"]
            copy = [*once, "bash", "-c", _COPY, SCRATCH, *self.copied]
            clear = [*once, "rm", "-rf", SCRATCH]
        lines += [_array("COPY", copy), _array("CLEAR", clear), _array("RUN", self._run())]
        body = Path(__file__).with_name("job.sh").read_text(encoding="utf-8")
        return "".join(lines) + "\n" + body

    def _run(self) -> list[str]:
        tasks = self.nodes * self.tasks_per_node
        # Tasks end by themselves; those that wait for one that has died are ended after a minute.
        srun = ["srun", f"--ntasks={tasks}", f"--ntasks-per-node={self.tasks_per_node}"]
        srun += ["--kill-on-bad-exit=0", "--wait=60"]
        if tasks > 1:
            srun.append("--label")
        if self.cpus_per_task:
            # Since Slurm 22.05 srun does not take it from sbatch.
            srun.append(f"--cpus-per-task={self.cpus_per_task}")
        # The program itself, and no shell around it: where Slurm keeps processes in cgroups, signals reach a task's first
        # process alone.
        if self.container is None:
            return [*srun, *self.command]
        mounts = [*self.container.mounts, *([SCRATCH] if self.scratch else [])]
        if self.container.runtime == "pyxis":
            pairs = ",".join(f"{mount}:{mount}" for mount in mounts)
            return [*srun, f"--container-image={self.container.image}", f"--container-mounts={pairs}", *self.command]
        binds = [word for mount in mounts for word in ("--bind", mount)]
        return [*srun, "apptainer", "exec", "--nv", *binds, self.container.image, *self.command]


def _array(name: str, words: Sequence[str]) -> str:
    """An assignment of a bash array, in which the node puts what it knows."""
    return f"{name}=({' '.join(map(_word, words))})\n"


def _word(word: str) -> str:
    parts = re.split("@(SCRATCH|SLURM_CPUS_ON_NODE|SLURM_ARRAY_TASK_ID)@", word)
    variables = [f'"${part}"' for part in parts[1::2]]
    texts = [shlex.quote(part) if part else "" for part in parts[::2]]
    return "".join(text + variable for text, variable in zip(texts, [*variables, ""], strict=True)) or "''"
