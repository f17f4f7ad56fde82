"""What a Slurm job is asked for, and what is wrong with it before Slurm is asked."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import arg

from configs.experiment import Experiment
from ellav_jax.errors import InputError
from ellav_jax.hardware import GPUS
from launch.clouds.gke_manifest import PROGRAM
from launch.jobs.hardware import Devices, check_fits
from launch.slurm.script import Container

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_SCRATCH = re.compile(r"[/$][\w./${}-]*")


@dataclasses.dataclass(frozen=True)
class SlurmArguments:
    """Options of `ellav launch slurm`."""

    nodes: int = 1
    gpus_per_node: Annotated[str, arg(metavar="[TYPE:]N")] = "0"
    """As sbatch takes it; the mesh's rules are checked for the kind of GPU that TYPE names."""
    tasks_per_node: int | None = None
    """Processes of a node: one for each GPU where none is given. 1 has one process use all GPUs of its node."""
    cpus_per_task: int | None = None
    memory: Annotated[str | None, arg(metavar="SIZE")] = None
    """Of a node: 64G; 0 for all of it."""
    time: Annotated[str | None, arg(metavar="TIME")] = None
    """Limit as Slurm writes it: MINUTES, HOURS:MINUTES:SECONDS, DAYS-HOURS, …; the partition's where none is given."""
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that the nodes must have."""
    sbatch: Annotated[tuple[str, ...], arg(metavar="NAME[=VALUE]"), tyro.conf.UseAppendAction] = ()
    """A further option of sbatch, without its dashes (reservation=R); may be given again."""
    grace_seconds: int = 300
    """So long before the time limit the run is told to stop: the time for a last checkpoint. Then the job goes back into
    the queue."""
    requeue: bool = True
    """Whether it goes back into the queue: after the time limit, a preemption, the failure of a node or its own."""
    restarts: int = 3
    """How often a failure of its own may send it there; preemptions and time limits count, and bad input ends it at once."""
    venv: Annotated[Path | None, arg(metavar="DIR")] = None
    """Virtual environment with ellav, the same on all nodes; this one where none is given."""
    image: Annotated[str | None, arg(metavar="IMAGE")] = None
    """Container image that the Dockerfile made, in place of a virtual environment."""
    container: Literal["pyxis", "apptainer"] = "pyxis"
    """What runs the image."""
    scratch: Annotated[str | None, arg(metavar="DIR")] = None
    """Folder of each node (/local/$USER; variables are the node's) into which the data sets are copied first."""
    follow: bool = True
    """Show the job's log until its end; Ctrl-C leaves the job running."""

    @property
    def gpus(self) -> int:
        """Of each node."""
        return int(self.gpus_per_node.rpartition(":")[2])

    @property
    def tasks(self) -> int:
        """Of each node."""
        return self.tasks_per_node or self.gpus or 1

    @property
    def program(self) -> str:
        """`ellav` as the tasks find it. Raises InputError where the virtual environment has none."""
        if self.image:
            return PROGRAM
        # Not resolved: the python of a virtual environment is a link to the one that it was made of.
        program = Path(self.venv or sys.prefix).absolute() / "bin/ellav"
        if not program.exists():
            raise InputError(
                f"--venv {program.parents[1]}: it has no bin/ellav; install ellav-jax there, or give --image"
            )
        return str(program)

    def in_container(self, folders: Sequence[str]) -> Container | None:
        """The container that shows the tasks these folders, if they run in one."""
        return Container(self.container, self.image, tuple(dict.fromkeys(folders))) if self.image else None

    def check(self) -> None:
        """Raises InputError for values that cannot be or do not go together."""
        if not re.fullmatch(r"([\w.-]+:)?\d+", self.gpus_per_node):
            raise InputError(f"--gpus-per-node {self.gpus_per_node}: expected a number, or TYPE:NUMBER as in h100:8")
        least = {"nodes": 1, "tasks_per_node": 1, "cpus_per_task": 1, "grace_seconds": 1, "restarts": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected at least {smallest}")
        if self.grace_seconds > 65535:
            raise InputError(f"--grace-seconds {self.grace_seconds}: Slurm takes at most 65535")
        if self.gpus and self.tasks not in (1, self.gpus):
            raise InputError(
                f"--tasks-per-node {self.tasks}: with {self.gpus} GPUs a node it is {self.gpus}, one for each, or 1 for all"
            )
        if self.image and self.venv:
            raise InputError("--image and --venv: the tasks run in one of them; leave the other out")
        if self.scratch and not _SCRATCH.fullmatch(self.scratch):
            raise InputError(
                f"--scratch {self.scratch}: expected an absolute path, in which variables may stand: /local/$USER"
            )
        if self.time is not None and seconds_of(self.time) <= self.grace_seconds:
            raise InputError(
                f"--time {self.time}: the run is told to stop {self.grace_seconds} s before the limit, which leaves "
                "nothing; give more time, or less --grace-seconds"
            )
        for option in self.sbatch:
            if not re.fullmatch(r"[a-z][a-z-]*(=.+)?", option):
                raise InputError(f"--sbatch {option}: expected NAME=VALUE or NAME, as in reservation=R")

    def of_sbatch(self, name: str, out: Path, array: int | None = None) -> dict[str, str | int | None]:
        """Options of sbatch for a job of this name, as `Script` has them; its log goes to `out`. array: so many jobs in
        one, from 1. Raises InputError where --sbatch gives one that is set here."""
        options = {
            "job-name": name,
            "array": array and f"1-{array}",
            "output": f"{out}/slurm-{'%A_%a' if array else '%j'}.log".replace(str(out), str(out).replace("%", "%%")),
            # A job that starts again goes on with its log.
            "open-mode": "append",
            "chdir": str(Path.cwd()),
            "nodes": self.nodes,
            "ntasks-per-node": self.tasks,
            "gpus-per-node": self.gpus_per_node if self.gpus else None,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.memory,
            "time": self.time,
            "account": self.account,
            "partition": self.partition,
            "qos": self.qos,
            "constraint": self.constraint,
            # To the script's shell, which has the tasks stop and the job requeued.
            "signal": f"B:USR1@{self.grace_seconds}",
            "requeue" if self.requeue else "no-requeue": "",
        }
        for option in self.sbatch:
            given, _, value = option.partition("=")
            if given in options:
                raise InputError(f"--sbatch {option}: --{given} is set by ellav launch; see ellav launch slurm --help")
            options[given] = value
        return options


def seconds_of(time: str) -> int:
    """Seconds of a time limit as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Raises InputError for others."""
    match = _TIME.fullmatch(time)
    if match is None:
        raise InputError(
            f"--time {time}: expected MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES or "
            "DAYS-HOURS:MINUTES:SECONDS"
        )
    parts = [int(part) for part in match.group("first", "second", "third") if part]
    # One number alone is minutes, but hours behind days.
    units = (60, 1) if len(parts) < 3 and not match["days"] else (3600, 60, 1)
    return 86400 * int(match["days"] or 0) + sum(part * unit for part, unit in zip(parts, units, strict=False))


def check_nodes(experiment: Experiment, options: SlurmArguments, environment: Mapping[str, str]) -> Devices:
    """What the experiment runs on. Raises InputError where its mesh, batch or heads do not divide there."""
    if options.gpus:
        kind = options.gpus_per_node.rpartition(":")[0].lower()
        # Sites name GPUs as they like: a100, nvidia_h100_80gb_hbm3. Longer names first: h100-nvl is no h100.
        chips = sorted((chip.name for chip in GPUS), key=len, reverse=True)
        chip = next((name for name in chips if name in kind.replace("_", "-")), "gpu")
        nodes = Devices(f"{chip}-{options.nodes * options.gpus}", options.nodes * options.gpus)
        check_fits(experiment, nodes)
        return nodes
    devices = environment.get("JAX_NUM_CPU_DEVICES")
    processes = options.nodes * options.tasks
    # A process alone makes devices of its cores; how many, it sees there.
    counts = [int(devices)] if devices else [1, options.cpus_per_task or 1] if processes == 1 else [1]
    for count in dict.fromkeys(counts):
        number = processes * count
        try:
            check_fits(experiment, Devices(f"cpu-{number}", number))
            return Devices(f"cpu-{number}", number)
        except InputError as error:
            problem = error
    raise problem
