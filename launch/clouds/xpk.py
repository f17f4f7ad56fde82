"""The xpk commands that are equal to the JobSet of `ellav launch gke`, for clusters that xpk made."""

import shlex

from ellav_jax.hardware import Topology
from launch.clouds.gke_manifest import DATA_OPTIONS, PROGRAM, WORK_OPTIONS, GkeArguments
from launch.jobs.description import JobDescription, train_command
from launch.jobs.storage import Storage
from launch.jobs.text import shell_lines

FAILURE = 1
"""Exit status of `ellav` after a failure; xpk starts again after those of signals by itself, and not after bad input."""


def tpu_type(hardware: Topology) -> str:
    """A slice by the name that gcloud and xpk know: v5litepod-16, v5p-256, v6e-8."""
    name = hardware.name.rpartition("x")[2]
    return name.replace("v5e-", "v5litepod-")


def xpk_script(job: JobDescription, hardware: Topology, options: GkeArguments, storage: Storage) -> str:
    """A shell script: buckets attached under the paths that the job sees, and the workload.

    All mounts are buckets.
    """
    project, location, cluster = options.cluster.split("/")
    where = ["--cluster", cluster, "--project", project, "--zone", location]
    lines = [
        "#!/usr/bin/env bash",
        "# Needs xpk (pip install xpk) and a cluster that it made.",
        "set -euo pipefail",
        "",
    ]
    storages = []
    for mount in storage.mounts:
        name = f"{job.name}-{mount.directory.rpartition('/')[2]}"
        storages += ["--storage", name]
        attach = ["xpk", "storage", "attach", name, "--type", "gcsfuse", "--bucket", mount.source]
        attach += [
            "--mount-point",
            mount.directory,
            "--readonly",
            str(not mount.writable).lower(),
            "--auto-mount",
            "false",
        ]
        attach += ["--mount-options", WORK_OPTIONS if mount.writable else DATA_OPTIONS, *where]
        lines.append(shell_lines(attach))
    # On TPUs alone, whose hosts GKE tells of each other; xpk takes machines of four chips where GKE has some of eight too.
    train = train_command(job, storage.data, storage.workdir, storage.init_from, "", ["--distributed"], PROGRAM)
    create = ["xpk", "workload", "create", "--workload", job.name, *where]
    create += ["--tpu-type", tpu_type(hardware), "--num-slices", str(hardware.slices)]
    create += ["--docker-image", options.image, "--command", shlex.join(train), *storages]
    for name, value in job.environment.items():
        create += ["--env", f"{name}={value}"]
    create += ["--max-restarts", str(options.restarts), "--restart-on-exit-codes", str(FAILURE)]
    create += ["--termination-grace-period-seconds", str(options.grace_seconds)]
    lines.append(shell_lines(create))
    return "\n".join(lines).rstrip("\n") + "\n"
