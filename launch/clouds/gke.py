"""`ellav launch gke`: checks and commands around a JobSet, submitted by kubectl."""

from pathlib import Path

from ellav_jax.errors import InputError
from ellav_jax.hardware import Topology
from launch.clouds.gke_manifest import SECRETS, GkeArguments, manifest
from launch.clouds.xpk import xpk_script
from launch.jobs.description import FILE, JobDescription
from launch.jobs.hardware import Hardware
from launch.jobs.plan import Check, LaunchPlan, storage_checks
from launch.jobs.storage import Storage, lay_out
from launch.jobs.text import json_text


def plan_gke(job: JobDescription, hardware: Hardware, options: GkeArguments, out: Path) -> LaunchPlan:
    """Raises InputError for what GKE does not run."""
    if isinstance(hardware, Topology) and hardware.slices > 1 and hardware.num_hosts == hardware.slices:
        raise InputError(
            f"hardware {job.hardware}: GKE joins slices of several hosts only, and one of these has one host; give larger "
            "slices, or ellav launch tpu-vm"
        )
    storage = lay_out(job.data, job.workdir, job.init_from, ("gs", "nfs"), "GKE")
    files = {FILE: json_text(job.to_json()), "jobset.yaml": manifest(job, hardware, options, storage)}
    kubectl = [
        "kubectl",
        *(["--context", options.context] if options.context else []),
        "--namespace",
        options.namespace,
    ]
    selector = f"jobset.sigs.k8s.io/jobset-name={job.name},batch.kubernetes.io/job-completion-index=0"
    checks = [
        Check(
            [*kubectl, "get", "customresourcedefinition", "jobsets.jobset.x-k8s.io"],
            "the cluster can't be reached, or has no JobSet: install it (https://jobset.sigs.k8s.io/docs/installation), or "
            "name another --cluster",
        ),
        Check(
            [*kubectl, "get", "serviceaccount", options.service_account],
            f"--service-account {options.service_account}: there is none in namespace {options.namespace}",
        ),
        Check(
            [*kubectl, "get", "jobset", job.name, "--ignore-not-found", "--output", "name"],
            f"a job {job.name} is in the cluster; `kubectl delete jobset {job.name}` ends it, and then this command "
            "continues its run, or give another --name",
            absent=True,
        ),
        *storage_checks(job, out),
    ]
    if job.secrets:
        checks.append(
            Check(
                [*kubectl, "get", "secret", SECRETS, "--output", "name"],
                f"--secret: there is no secret {SECRETS} in namespace {options.namespace}; make it with kubectl create "
                f"secret generic {SECRETS} --from-literal=NAME=…",
            )
        )
    prefix = " ".join(kubectl)
    notes = [
        f"follow: {prefix} logs --follow --tail=-1 --container train --selector {selector}",
        f"state:  {prefix} get jobset,pods --selector app.kubernetes.io/instance={job.name}",
        f"stop:   {prefix} delete jobset {job.name}   (it saves a checkpoint; the same ellav launch continues it)",
    ]
    if options.cluster and _xpk_can(job, hardware, storage):
        files["xpk.sh"] = xpk_script(job, hardware, options, storage)
        notes.append(f"xpk:    bash {out / 'xpk.sh'} submits the same by xpk, instead")
    return LaunchPlan(files, checks, [[*kubectl, "apply", "--filename", str(out / "jobset.yaml")]], notes)


def _xpk_can(job: JobDescription, hardware: Hardware, storage: Storage) -> bool:
    """Secrets, an experiment's file and NFS are beyond `xpk workload create`; GPUs it names in its own ways."""
    buckets = all(mount.kind == "gs" for mount in storage.mounts)
    return isinstance(hardware, Topology) and buckets and not job.secrets and not job.experiment_file
