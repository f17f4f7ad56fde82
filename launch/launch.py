"""`ellav launch`: the same experiment on Kubernetes, Cloud TPU VMs or any cloud's GPUs; their tools do the running."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from tyro.conf import arg

from configs.experiment import Experiment, find_experiment
from ellav_jax.errors import InputError
from launch.distributed import ProcessGroup
from launch.gke import GkeArguments, plan_gke
from launch.job_description import FILE, LAUNCHES, JobDescription, check_secrets, environment_of, job_name, source_state
from launch.job_hardware import Hardware, check_fits, find_hardware
from launch.job_plan import LaunchPlan, carry_out, show
from launch.sky import SkyArguments, plan_sky
from launch.tpu_vm import TpuVmArguments, plan_tpu_vm
from launch.train import TrainArguments


@dataclasses.dataclass(frozen=True)
class JobArguments:
    """What every target asks for. All that is not an option of `ellav launch` goes to `ellav train`."""

    data: Annotated[tuple[str, ...], arg(metavar="URL[:WEIGHT]"), tyro.conf.UseAppendAction]
    """Data set that `ellav prepare` wrote, where the job can mount it; once for each of a mixture, as in `ellav train`."""
    workdir: Annotated[str, arg(metavar="URL")]
    """Work directory, where the job can mount it; a run in it is continued."""
    hardware: Annotated[str, arg(metavar="NAME")]
    """TPUs as Google names them (v5p-256, v5e-16, 2xv5e-16 for two slices), or GPUs (h100-16: two nodes of eight)."""
    init_from: Annotated[str | None, arg(metavar="URL")] = None
    """As in `ellav train`."""
    name: str | None = None
    """Of the job; made from the experiment's where none is given."""
    env: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE"), tyro.conf.UseAppendAction] = ()
    """Variable of the job's environment; may be given again."""
    secret: Annotated[tuple[str, ...], arg(metavar="NAME"), tyro.conf.UseAppendAction] = ()
    """Variable whose value is written to no file here; may be given again. docs/launching.md says where each target takes
    it from."""
    out: Annotated[Path, arg(metavar="DIR")] = Path(LAUNCHES)
    """What is generated is kept in DIR/NAME."""
    dry_run: bool = False
    """Print what would be written and run, and do neither."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that runs jobs. arguments: its options. plan: works a launch out of them; the path is that of the
    generated files."""

    help: str
    arguments: type
    plan: Callable[[JobDescription, Hardware, object, Path], LaunchPlan]


TARGETS = {
    "gke": Target("a JobSet on Google Kubernetes Engine: TPU slices, GPU nodes", GkeArguments, plan_gke),
    "tpu-vm": Target("Cloud TPU VMs by gcloud: queued resources, spot", TpuVmArguments, plan_tpu_vm),
    "sky": Target("a SkyPilot task: GPUs of any cloud", SkyArguments, plan_sky),
}


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav launch TARGET EXPERIMENT --data URL … --workdir URL --hardware NAME [OPTION …] [--FIELD VALUE …]`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: ellav launch TARGET EXPERIMENT --data URL … --workdir URL --hardware NAME [--FIELD VALUE …]\n")
        print("".join(f"  {name:<7} {target.help}\n" for name, target in TARGETS.items()))
        print(
            "ellav launch TARGET --help lists a target's options; ellav train EXPERIMENT --help the experiment's fields."
        )
        return
    target_name, *rest = arguments
    if target_name not in TARGETS:
        raise InputError(f"ellav launch {target_name}: there is no such target; there are: {', '.join(TARGETS)}")
    target = TARGETS[target_name]
    if not rest or rest[0].startswith("-"):
        if not set(rest) & {"-h", "--help"}:
            raise InputError(
                f"ellav launch {target_name} wants the experiment first: ellav launch {target_name} librispeech_pod.gar "
                "--data URL --workdir URL --hardware v5p-256"
            )
        rest = ["EXPERIMENT", "--help"]
    experiment_name, *rest = rest
    options, overrides = _parse(target_name, experiment_name, rest)
    common, chosen = options
    # Models are only described here; an accelerator of this machine stays free for who runs on it.
    jax.config.update("jax_platforms", "cpu")
    experiment = _experiment(experiment_name, common, overrides)
    hardware = find_hardware(common.hardware)
    check_fits(experiment, hardware)
    check_secrets(common.secret)
    job = JobDescription(
        name=job_name(common.name, experiment_name),
        target=target_name,
        experiment=experiment_name,
        data=common.data,
        workdir=common.workdir.rstrip("/"),
        init_from=common.init_from,
        overrides=tuple(overrides),
        hardware=common.hardware,
        processes=hardware.num_hosts,
        environment=environment_of(common.env),
        secrets=common.secret,
        image=getattr(chosen, "image", None),
        **source_state(),
    )
    out = common.out / job.name
    plan = target.plan(job, hardware, chosen, out)
    if common.dry_run:
        show(plan, out)
        return
    carry_out(plan, out)
    print(f"described in {out / FILE}", file=sys.stderr)


def _parse(target: str, experiment: str, arguments: Sequence[str]) -> tuple[tuple[JobArguments, object], list[str]]:
    """The options of `ellav launch`, and the arguments that are left, for `ellav train`."""
    parts = {"job": JobArguments, "target": TARGETS[target].arguments}
    options = dataclasses.make_dataclass(
        "Options", [(name, Annotated[part, arg(name="")]) for name, part in parts.items()], frozen=True
    )
    chosen, rest = tyro.cli(
        options,
        args=arguments,
        prog=f"ellav launch {target} {experiment}",
        description=f"{TARGETS[target].help}. Fields of the experiment are options too: ellav train EXPERIMENT --help.",
        return_unknown_args=True,
    )
    if not chosen.job.data:
        raise InputError(f"ellav launch {target} {experiment}: no data set; give --data URL, once for each data set")
    return (chosen.job, chosen.target), rest


def _experiment(name: str, common: JobArguments, overrides: Sequence[str]) -> Experiment:
    """The experiment with its overrides, refused here as `ellav train` would refuse them there."""
    chosen = tyro.cli(
        TrainArguments,
        args=["--data", common.data[0], "--workdir", common.workdir, *overrides],
        prog=f"ellav launch … {name}",
        default=TrainArguments((), tyro.MISSING, experiment=find_experiment(name)),
        config=(tyro.conf.AvoidSubcommands,),
    )
    if dataclasses.replace(chosen.processes, start_timeout=0) != ProcessGroup(start_timeout=0):
        raise InputError(
            "--distributed, --coordinator, --num-processes and --process-id are set by ellav launch; leave them out"
        )
    return chosen.experiment
