"""`ellav launch tpu-vm`: settings for two shell scripts, of which one calls gcloud here and one runs on the workers."""

import dataclasses
import os
import shlex
from pathlib import Path

from ellav_jax.errors import InputError
from ellav_jax.hardware import Topology
from launch.clouds.xpk import tpu_type
from launch.jobs.description import FILE, JobDescription, require_secrets, train_command
from launch.jobs.hardware import Hardware
from launch.jobs.plan import LaunchPlan, storage_checks
from launch.jobs.storage import Storage, lay_out
from launch.jobs.text import json_text, shell_array
from launch.source_tree import SOURCE

SCRIPTS = ("tpu_vm_job.sh", "tpu_vm_worker.sh")
ARCHIVE = "source.tar.gz"
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
"""Software of the machines, by TPU: those of Google's page on TPU software versions."""


@dataclasses.dataclass(frozen=True)
class TpuVmArguments:
    """Options of `ellav launch tpu-vm`."""

    project: str
    """Google Cloud project."""
    zone: str
    """Zone that has the TPUs: us-east5-a, …"""
    spot: bool = False
    """Spot capacity: cheaper, and taken away when others want it."""
    keep: bool = False
    """Stay, watch the run, and after a preemption make the slices anew and let it go on, until it is finished."""
    restarts: int = 20
    """How often --keep starts the run again after a failure; preemptions don't count, and bad input ends it at once."""
    grace_seconds: int = 300
    """From the signal to stop to the end: the time for a last checkpoint."""
    service_account: str = ""
    """E-mail address of the machines' service account; Compute Engine's default where none is given."""
    network: str = ""
    """VPC network; the default one where none is given."""
    runtime_version: str | None = None
    """Software of the machines; the one for the TPU where none is given."""


def plan_tpu_vm(job: JobDescription, hardware: Hardware, options: TpuVmArguments, out: Path) -> LaunchPlan:
    """Raises InputError for GPUs, and where there is no commit to send."""
    if not isinstance(hardware, Topology):
        raise InputError(f"hardware {job.hardware}: expected TPUs, as in v5e-16; GPUs have ellav launch gke and sky")
    if job.revision is None:
        raise InputError(f"{SOURCE}: not a git checkout; ellav launch tpu-vm sends the workers a commit of one")
    require_secrets(job.secrets, os.environ)
    storage = lay_out(job.data, job.workdir, job.init_from, ("gs", "nfs"), "a TPU VM")
    files = {FILE: json_text(job.to_json())}
    files |= {name: Path(__file__).with_name(name).read_text(encoding="utf-8") for name in SCRIPTS}
    if path := job.experiment_file:
        files[path.name] = path.read_text(encoding="utf-8")
    files["settings.sh"] = _settings(job, hardware, options, storage)
    archive = [
        "git",
        "-C",
        str(SOURCE),
        "archive",
        "--format=tar.gz",
        f"--output={(out / ARCHIVE).resolve()}",
        job.revision,
    ]
    script = str(out / SCRIPTS[0])
    notes = [f"{verb + ':':<8}bash {script} {verb}" for verb in ("follow", "status", "keep", "stop", "delete")]
    if job.uncommitted:
        notes.insert(
            0,
            f"note: the workers get commit {job.revision[:12]}, without {job.uncommitted} files that were changed since",
        )
    commands = [archive, ["bash", script, "keep" if options.keep else "up"]]
    return LaunchPlan(files, storage_checks(job, out), commands, notes)


def _settings(job: JobDescription, hardware: Topology, options: TpuVmArguments, storage: Storage) -> str:
    """Shell variables of both scripts."""
    directory = f"ellav-{job.name}"
    along = [path.name] if (path := job.experiment_file) else []
    group = ["--distributed"] if hardware.num_hosts > 1 else []
    train = train_command(job, storage.data, storage.workdir, storage.init_from, ".", group, "venv/bin/ellav")
    mounts = ["|".join([m.kind, m.source, m.directory, "rw" if m.writable else "ro"]) for m in storage.mounts]
    values = {
        "NAME": job.name,
        "PROJECT": options.project,
        "ZONE": options.zone,
        "ACCELERATOR_TYPE": tpu_type(hardware),
        "RUNTIME_VERSION": options.runtime_version or RUNTIMES[hardware.tpu.name],
        "SLICES": str(hardware.slices),
        "SPOT": "yes" if options.spot else "no",
        "SERVICE_ACCOUNT": options.service_account,
        "NETWORK": options.network,
        "RESTARTS": str(options.restarts),
        "GRACE_SECONDS": str(options.grace_seconds),
        "DIRECTORY": directory,
        "UNIT": directory,
        "REVISION": job.revision,
    }
    arrays = {
        "FILES": [SCRIPTS[1], "settings.sh", ARCHIVE, FILE, *along],
        "SECRETS": list(job.secrets),
        "MOUNTS": mounts,
        "ENVIRONMENT": [f"{name}={value}" for name, value in job.environment.items()],
        "TRAIN": train,
    }
    head = (
        "# shellcheck shell=bash disable=SC2034\n# Written by `ellav launch tpu-vm`; read by the scripts beside it.\n"
    )
    return (
        head
        + "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        + "".join(shell_array(name, words) for name, words in arrays.items())
    )
