"""`ellav launch`: one training job, whatever runs it: this machine, Slurm, Kubernetes, Cloud TPU VMs or any cloud's GPUs.

A target's own modules are imported when it is asked for: `local` shall not wait for what the others need.
"""

from collections.abc import Sequence

from ellav_jax.errors import InputError

TARGETS = {
    "local": "several processes on this machine",
    "slurm": "a job of a Slurm cluster; `prepare CORPUS OUT` in place of EXPERIMENT makes a data set",
    "gke": "a JobSet on Google Kubernetes Engine: TPU slices, GPU nodes",
    "tpu-vm": "Cloud TPU VMs by gcloud: queued resources, spot",
    "sky": "a SkyPilot task: GPUs of any cloud",
}


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav launch TARGET EXPERIMENT --data URL … --workdir URL [OPTION …] [--FIELD VALUE …]`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: ellav launch TARGET EXPERIMENT --data URL … --workdir URL [OPTION …] [--FIELD VALUE …]\n")
        print("".join(f"  {name:<7} {text}\n" for name, text in TARGETS.items()))
        print(
            "ellav launch TARGET --help lists a target's options; ellav train EXPERIMENT --help the experiment's fields."
        )
        return
    target, *rest = arguments
    if target not in TARGETS:
        raise InputError(f"ellav launch {target}: there is no such target; there are: {', '.join(TARGETS)}")
    if target == "local":
        from launch.local.launch import main as launch_local

        launch_local(rest)
    elif target == "slurm":
        from launch.slurm.launch import main as launch_slurm

        launch_slurm(rest)
    else:
        from launch.clouds.launch import launch

        launch(target, TARGETS[target], rest)
