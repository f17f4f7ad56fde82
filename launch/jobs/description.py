"""What a distributed job is, whatever runs it: saved beside what is generated and in the work directory, without secrets."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.files import write_json

FILE = "job.json"
LAUNCHES = "launches"
"""Folder of a work directory that keeps the descriptions of the jobs that ran in it."""
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class JobDescription:
    """A training job.

    target: what runs it ("gke", "tpu-vm", "sky", …). data, workdir, init_from, experiment: as they were given. overrides:
    further arguments of `ellav train`. hardware: as given. processes: of the run, one to a host. revision: the git commit
    of the source tree, None outside of one; uncommitted: how many files in it differ from that commit. environment:
    variables of the job. secrets: names of variables whose values are kept elsewhere. image: of the container, if there is
    one.
    """

    name: str
    target: str
    experiment: str
    data: tuple[str, ...]
    workdir: str
    init_from: str | None
    overrides: tuple[str, ...]
    hardware: str
    processes: int
    version: str
    revision: str | None
    uncommitted: int
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    image: str | None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dataclasses.asdict(self)

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        write_json(path, self.to_json())

    def save_in_workdir(self) -> Path:
        """Puts it into the work directory, on this machine; returns the file. Raises InputError where that can't be."""
        path = Path(self.workdir, LAUNCHES, f"{self.name}.json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save(path)
        except OSError as error:
            raise InputError(
                f"--workdir {self.workdir}: it can't be written ({error.strerror}); choose another, or mend its permissions"
            ) from None
        return path

    @property
    def experiment_file(self) -> Path | None:
        """The file of an experiment `FILE.py:b`, which goes along with the job; None for one of configs/."""
        path, colon, _ = self.experiment.rpartition(":")
        return Path(path) if colon else None


def train_command(
    job: JobDescription,
    data: Sequence[str],
    workdir: str,
    init_from: str | None,
    experiment_directory: str,
    group: Sequence[str],
    program: str = "ellav",
) -> list[str]:
    """`ellav train …` with paths as the job sees them. experiment_directory: where an experiment's file was brought to.
    group: how the processes meet (`--distributed`, …)."""
    experiment = job.experiment
    if job.experiment_file:
        experiment = f"{experiment_directory}/{job.experiment_file.name}:{experiment.rpartition(':')[2]}"
    command = [program, "train", experiment]
    for directory in data:
        command += ["--data", directory]
    command += ["--workdir", workdir]
    if init_from:
        command += ["--init-from", init_from]
    return [*command, *group, *job.overrides]


def job_name(given: str | None, experiment: str) -> str:
    """The name given, or one from the experiment's. Raises InputError for what Kubernetes and Google Cloud don't take."""
    name = given
    if given is None:
        path, _, function = experiment.rpartition(":" if ".py:" in experiment else ".")
        name = re.sub(r"[^a-z0-9]+", "-", f"{Path(path).stem}-{function}".lower()).strip("-")[:40].rstrip("-")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--name {name}: expected at most 40 lower-case letters, digits and hyphens, a letter first and no hyphen last"
        )
    return name


def environment_of(variables: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE …` → a mapping. Raises InputError for other forms, and for names that look like those of secrets."""
    environment = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        _check_variable(name, "--env")
        if not equals:
            raise InputError(f"--env {variable}: expected NAME=VALUE")
        if _SECRET.search(name):
            raise InputError(
                f"--env {name}=…: it looks like a secret, and what --env gives is written down; give --secret {name}"
            )
        environment[name] = value
    return environment


def check_secrets(names: Sequence[str]) -> None:
    """Raises InputError for what is not the bare name of a variable."""
    for name in names:
        if "=" in name:
            raise InputError(f"--secret {name.partition('=')[0]}=…: give the name alone; values are never written down")
        _check_variable(name, "--secret")


def require_secrets(names: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises InputError where a secret that this machine sends along has no value in its environment."""
    for name in names:
        if not environment.get(name):
            raise InputError(f"--secret {name}: the environment has no {name}; export it, and give the command again")


def _check_variable(name: str, option: str) -> None:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise InputError(f"{option} {name}: expected the name of an environment variable first")
