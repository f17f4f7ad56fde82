"""`ellav launch sky`: a SkyPilot task for GPUs of any cloud."""

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from ellav_jax.errors import InputError
from launch.clouds.gke_manifest import COORDINATOR_PORT, PROGRAM
from launch.jobs.description import FILE, JobDescription, require_secrets, train_command
from launch.jobs.hardware import GpuNodes, Hardware
from launch.jobs.plan import Check, LaunchPlan, storage_checks
from launch.jobs.storage import lay_out
from launch.jobs.text import json_text, yaml_text
from launch.source_tree import SOURCE

ALONG = "/tmp/ellav"
"""Where an experiment's file is brought to."""
_VENV = "$HOME/ellav-venv"


@dataclasses.dataclass(frozen=True)
class SkyArguments:
    """Options of `ellav launch sky`."""

    image: Annotated[str | None, arg(metavar="IMAGE")] = None
    """Container image that the Dockerfile made for cuda12; without one, the source tree is sent and installed."""
    infra: Annotated[str | None, arg(metavar="CLOUD[/REGION[/ZONE]]")] = None
    """Where to look; SkyPilot takes the cheapest place that your accounts have where none is given."""
    spot: bool = False
    """Spot machines, as a managed job that SkyPilot starts again elsewhere after a preemption."""
    restarts: int = 3
    """How often a managed job may start again after a failure, whatever it was; preemptions don't count."""


def plan_sky(job: JobDescription, hardware: Hardware, options: SkyArguments, out: Path) -> LaunchPlan:
    """Raises InputError for TPUs."""
    if not isinstance(hardware, GpuNodes):
        raise InputError(
            f"hardware {job.hardware}: ellav launch sky is for GPUs; TPUs have ellav launch gke and tpu-vm"
        )
    require_secrets(job.secrets, os.environ)
    files = {FILE: json_text(job.to_json()), "task.yaml": yaml_text(_task(job, hardware, options))}
    secrets = [word for name in job.secrets for word in ("--secret", name)]
    task = str(out / "task.yaml")
    if options.spot:
        command = ["sky", "jobs", "launch", "--yes", "--detach-run", "--name", job.name, *secrets, task]
        notes = ["follow: sky jobs queue; sky jobs logs JOB", f"stop:   sky jobs cancel --name {job.name}"]
    else:
        command = ["sky", "launch", "--yes", "--detach-run", "--cluster", job.name, *secrets, task]
        notes = [
            f"follow: sky logs {job.name}",
            f"stop:   sky cancel {job.name} --all   (it saves a checkpoint); sky down {job.name} gives the machines back",
        ]
    checks = [
        Check(["sky", "check"], "SkyPilot has no cloud to use; see what `sky check` says"),
        *storage_checks(job, out),
    ]
    return LaunchPlan(files, checks, [command], notes)


def _task(job: JobDescription, hardware: GpuNodes, options: SkyArguments) -> dict[str, Any]:
    storage = lay_out(job.data, job.workdir, job.init_from, ("gs", "s3"), "SkyPilot")
    resources: dict[str, Any] = {"accelerators": f"{hardware.type.sky}:{hardware.gpus}"}
    if options.infra:
        resources["infra"] = options.infra
    if options.spot:
        resources |= {"use_spot": True, "job_recovery": {"max_restarts_on_errors": options.restarts}}
    mounts: dict[str, Any] = {
        mount.directory: {"source": f"{mount.kind}://{mount.source}", "mode": "MOUNT"} for mount in storage.mounts
    }
    if path := job.experiment_file:
        mounts[f"{ALONG}/{path.name}"] = str(path.resolve())
    program = PROGRAM if options.image else f"{_VENV}/bin/ellav"
    train = train_command(job, storage.data, storage.workdir, storage.init_from, ALONG, [], program)
    # What the shell on the node is to replace is not quoted away.
    run = f'exec "{program}" {shlex.join(train[1:])}'
    if hardware.num_hosts > 1:
        first = f'"$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):{COORDINATOR_PORT}"'
        run += f' --coordinator {first} --num-processes {hardware.num_hosts} --process-id "$SKYPILOT_NODE_RANK"'
    task: dict[str, Any] = {"name": job.name, "num_nodes": hardware.num_hosts}
    if options.image:
        resources["image_id"] = f"docker:{options.image}"
    else:
        task["workdir"] = str(SOURCE)
        task["setup"] = (
            "set -e\n"
            "command -v uv > /dev/null || python3 -m pip install --quiet uv\n"
            f'uv venv --quiet --allow-existing --python 3.11 "{_VENV}"\n'
            f'uv pip install --quiet --python "{_VENV}" --requirement requirements.lock '
            "--constraint requirements.lock 'jax[cuda12]'\n"
            f'uv pip install --quiet --python "{_VENV}" --no-deps .\n'
        )
    task |= {"resources": resources, "file_mounts": mounts}
    if job.environment:
        task["envs"] = dict(job.environment)
    if job.secrets:
        # Without values: `sky` takes them from the environment that it is called in.
        task["secrets"] = dict.fromkeys(job.secrets)
    return task | {"run": f"{run}\n"}
