"""`ellav launch gke`, `tpu-vm` and `sky`: training on hardware that is asked for by name; their tools do the running."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import jax
from tyro.conf import arg

from launch.clouds.gke import GkeArguments, plan_gke
from launch.clouds.sky import SkyArguments, plan_sky
from launch.clouds.tpu_vm import TpuVmArguments, plan_tpu_vm
from launch.jobs.description import FILE, JobDescription, check_secrets, environment_of, job_name
from launch.jobs.hardware import Hardware, check_fits, find_hardware
from launch.jobs.options import JobArguments, RunArguments, check_experiment, parse, split_off_experiment
from launch.jobs.plan import LaunchPlan, carry_out, show
from launch.source_tree import source_state


@dataclasses.dataclass(frozen=True)
class HardwareArguments:
    """What a cloud is asked for."""

    hardware: Annotated[str, arg(metavar="NAME")]
    """TPUs as Google names them (v5p-256, v5e-16, 2xv5e-16 for two slices), or GPUs (h100-16: two nodes of eight)."""


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Something that runs jobs. arguments: its options. plan: works a launch out of them; the path is that of the
    generated files."""

    arguments: type
    plan: Callable[[JobDescription, Hardware, object, Path], LaunchPlan]


CLOUDS = {
    "gke": Cloud(GkeArguments, plan_gke),
    "tpu-vm": Cloud(TpuVmArguments, plan_tpu_vm),
    "sky": Cloud(SkyArguments, plan_sky),
}


def launch(target: str, about: str, arguments: Sequence[str]) -> None:
    """Runs `ellav launch TARGET EXPERIMENT --data URL … --workdir URL --hardware NAME [OPTION …] [--FIELD VALUE …]`."""
    cloud = CLOUDS[target]
    name, arguments = split_off_experiment(
        target, arguments, "librispeech_pod.gar --data URL --workdir URL --hardware v5p-256"
    )
    about = f"{about}. Fields of the experiment are options too: ellav train EXPERIMENT --help."
    (run, common, asked, chosen), overrides = parse(
        f"ellav launch {target} {name}",
        about,
        arguments,
        RunArguments,
        JobArguments,
        HardwareArguments,
        cloud.arguments,
    )
    # Models are only described here; an accelerator of this machine stays free for who runs on it.
    jax.config.update("jax_platforms", "cpu")
    experiment = check_experiment(name, run, overrides)
    hardware = find_hardware(asked.hardware)
    check_fits(experiment, hardware)
    check_secrets(common.secret)
    job = JobDescription(
        name=job_name(common.name, name),
        target=target,
        experiment=name,
        data=run.data,
        workdir=run.workdir.rstrip("/"),
        init_from=run.init_from,
        overrides=tuple(overrides),
        hardware=asked.hardware,
        processes=hardware.num_hosts,
        environment=environment_of(common.env),
        secrets=common.secret,
        image=getattr(chosen, "image", None),
        **source_state(),
    )
    out = common.out / job.name
    plan = cloud.plan(job, hardware, chosen, out)
    if common.dry_run:
        show(plan, out)
        return
    carry_out(plan, out)
    print(f"described in {out / FILE}", file=sys.stderr)
