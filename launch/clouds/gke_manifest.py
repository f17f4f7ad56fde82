"""The JobSet of `ellav launch gke`, with the ConfigMap of what goes along.

Labels, resource names and annotations are those of Google's pages on TPUs, GPUs and Cloud Storage FUSE in GKE; the fields
are JobSet's v1alpha2 and Kubernetes' Job and Pod.
"""

import dataclasses
from typing import Annotated, Any

from tyro.conf import arg

from ellav_jax.errors import InputError
from ellav_jax.hardware import Topology
from launch.jobs.description import FILE, JobDescription, train_command
from launch.jobs.hardware import Hardware
from launch.jobs.storage import Mount, Storage
from launch.jobs.text import json_text, yaml_text

SECRETS = "ellav"
"""The Kubernetes secret whose keys `--secret` names."""
ALONG = "/etc/ellav"
"""Where the ConfigMap is mounted."""
# Of the Dockerfile.
PROGRAM = "/opt/ellav/bin/ellav"
WORKERS = "workers"
CONTAINER = "train"
COORDINATOR_PORT = 8476
_PROCESS_ID = "$(PROCESS_ID)"
BAD_INPUT = 2
"""Exit status of `ellav` that no restart mends."""
_TPU_LABELS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
}
# What one host writes the others must see at once, so nothing is cached; a checkpoint is renamed when it is whole, which is
# one operation in a bucket with a hierarchical namespace and as many as it has files in another.
WORK_OPTIONS = (
    "implicit-dirs,metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0,file-system:rename-dir-limit:200000"
)
# Data sets don't change: what was read once comes from the node's disk.
DATA_OPTIONS = (
    "implicit-dirs,metadata-cache:ttl-secs:-1,file-cache:max-size-mb:-1,file-cache:cache-file-for-range-read:true"
)
LARGEST_ALONG = 900_000
"""Bytes; Kubernetes takes 1 MiB of a ConfigMap."""


@dataclasses.dataclass(frozen=True)
class GkeArguments:
    """Options of `ellav launch gke`."""

    image: Annotated[str, arg(metavar="IMAGE")]
    """Container image that the Dockerfile made, for the hardware asked for: REGISTRY/NAME:TAG or @sha256:…"""
    cluster: Annotated[str | None, arg(metavar="PROJECT/LOCATION/NAME")] = None
    """The cluster, by kubectl's context for it that `gcloud container clusters get-credentials` makes; where none is given,
    the current context."""
    namespace: str = "default"
    service_account: str = "default"
    """Kubernetes service account of the pods: the one that may read and write the buckets."""
    queue: str | None = None
    """Kueue's local queue, in clusters that have them."""
    spot: bool = False
    """Spot machines only."""
    restarts: int = 20
    """How often the whole job may start again after a failure or a preemption; bad input ends it at once."""
    grace_seconds: int = 300
    """From the signal to stop to the end: the time for a last checkpoint. Spot machines get 30 at most."""

    def __post_init__(self) -> None:
        if self.cluster is not None and (self.cluster.count("/") != 2 or "" in self.cluster.split("/")):
            raise InputError(f"--cluster {self.cluster}: expected PROJECT/LOCATION/NAME")
        if self.restarts < 0 or self.grace_seconds < 1:
            raise InputError("--restarts and --grace-seconds: expected at least 0 and 1")

    @property
    def context(self) -> str | None:
        """The cluster's name in kubectl's configuration, as gcloud writes it."""
        return self.cluster and "_".join(["gke", *self.cluster.split("/")])


def manifest(job: JobDescription, hardware: Hardware, options: GkeArguments, storage: Storage) -> str:
    """ConfigMap and JobSet as YAML. Raises InputError where an experiment's file is too large to go along."""
    along = {FILE: json_text(job.to_json())}
    if path := job.experiment_file:
        along[path.name] = path.read_text(encoding="utf-8")
        if len(along[path.name].encode()) > LARGEST_ALONG:
            raise InputError(f"experiment {job.experiment}: {path} is too large for a ConfigMap; put it into the image")
    labels = {"app.kubernetes.io/name": "ellav", "app.kubernetes.io/instance": job.name}
    metadata = {"name": job.name, "namespace": options.namespace, "labels": labels}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": along}
    jobset_metadata = dict(metadata)
    if options.queue:
        jobset_metadata["labels"] = labels | {"kueue.x-k8s.io/queue-name": options.queue}
    if _hosts_of_a_slice(hardware) > 1 and isinstance(hardware, Topology):
        # A slice of several hosts is a node pool, and takes one job.
        jobset_metadata["annotations"] = {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
        }
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": jobset_metadata,
        "spec": {
            "failurePolicy": {
                "maxRestarts": options.restarts,
                "rules": [
                    {"name": "badInput", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
                ],
            },
            "replicatedJobs": [
                {
                    "name": WORKERS,
                    "replicas": hardware.slices,
                    "template": {"spec": _job(job, hardware, options, storage, labels)},
                }
            ],
        },
    }
    return yaml_text(config_map, jobset)


def _hosts_of_a_slice(hardware: Hardware) -> int:
    return hardware.num_hosts // hardware.slices


def _job(
    job: JobDescription, hardware: Hardware, options: GkeArguments, storage: Storage, labels: dict[str, str]
) -> dict[str, Any]:
    hosts = _hosts_of_a_slice(hardware)
    pod_metadata: dict[str, Any] = {"labels": labels}
    if any(mount.kind == "gs" for mount in storage.mounts):
        # 0: no limit but the node's for the sidecar that mounts buckets.
        limits = {f"gke-gcsfuse/{what}-limit": "0" for what in ("cpu", "memory", "ephemeral-storage")}
        pod_metadata["annotations"] = {"gke-gcsfuse/volumes": "true", **limits}
    return {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        # One pod's failure is the slice's: JobSet starts all of them again.
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [BAD_INPUT]},
                }
            ]
        },
        "template": {"metadata": pod_metadata, "spec": _pod(job, hardware, options, storage)},
    }


def _pod(job: JobDescription, hardware: Hardware, options: GkeArguments, storage: Storage) -> dict[str, Any]:
    selector, resource, count = _devices(hardware)
    tolerations = [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}]
    if options.spot:
        spot = "cloud.google.com/gke-spot"
        selector[spot] = "true"
        tolerations.append({"key": spot, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    volumes = [
        {"name": "along", "configMap": {"name": job.name}},
        # The default is 64 MiB, too little for NCCL and for workers that hand over batches.
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        *(_volume(mount) for mount in storage.mounts),
    ]
    places = [
        {"name": "along", "mountPath": ALONG, "readOnly": True},
        {"name": "memory", "mountPath": "/dev/shm"},
        *(
            {"name": _name(mount), "mountPath": mount.directory} | ({} if mount.writable else {"readOnly": True})
            for mount in storage.mounts
        ),
    ]
    command, *arguments = train_command(
        job, storage.data, storage.workdir, storage.init_from, ALONG, _group(job, hardware), PROGRAM
    )
    container = {
        "name": CONTAINER,
        "image": options.image,
        "command": [command],
        "args": [_literal(argument) for argument in arguments],
        "env": _environment(job, hardware),
        "resources": {"limits": {resource: count}},
        "volumeMounts": places,
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": options.service_account,
        "terminationGracePeriodSeconds": options.grace_seconds,
        "nodeSelector": selector,
        "tolerations": tolerations,
        "containers": [container],
        "volumes": volumes,
    }


def _devices(hardware: Hardware) -> tuple[dict[str, str], str, int]:
    """Node labels to select, the resource to ask for, and how much of it a host has."""
    if isinstance(hardware, Topology):
        labels = {
            "cloud.google.com/gke-tpu-accelerator": _TPU_LABELS[hardware.tpu.name],
            "cloud.google.com/gke-tpu-topology": "x".join(map(str, hardware.shape)),
        }
        return labels, "google.com/tpu", hardware.num_devices // hardware.num_hosts
    return {"cloud.google.com/gke-accelerator": hardware.type.gke}, "nvidia.com/gpu", hardware.gpus


def _group(job: JobDescription, hardware: Hardware) -> list[str]:
    """How the processes meet: TPU hosts by what GKE tells them, GPU nodes at the first of them."""
    if hardware.num_hosts == 1:
        return []
    if isinstance(hardware, Topology):
        return ["--distributed"]
    first = f"{job.name}-{WORKERS}-0-0.{job.name}:{COORDINATOR_PORT}"
    return ["--coordinator", first, "--num-processes", str(hardware.num_hosts), "--process-id", _PROCESS_ID]


def _environment(job: JobDescription, hardware: Hardware) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = []
    if not isinstance(hardware, Topology):
        # Where GKE's nodes have the driver's libraries.
        variables.append({"name": "LD_LIBRARY_PATH", "value": "/usr/local/nvidia/lib64"})
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        variables.append({"name": "PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}})
    variables += [{"name": name, "value": _literal(value)} for name, value in job.environment.items()]
    return variables + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRETS, "key": name}}} for name in job.secrets
    ]


def _literal(text: str) -> str:
    """Kubernetes replaces $(NAME) in arguments and variables; `$$(` stands for the characters themselves."""
    return text if text == _PROCESS_ID else text.replace("$(", "$$(")


def _name(mount: Mount) -> str:
    return mount.directory.rpartition("/")[2]


def _volume(mount: Mount) -> dict[str, Any]:
    if mount.kind == "nfs":
        server, _, path = mount.source.partition(":")
        return {"name": _name(mount), "nfs": {"server": server, "path": path, "readOnly": not mount.writable}}
    return {
        "name": _name(mount),
        "csi": {
            "driver": "gcsfuse.csi.storage.gke.io",
            "readOnly": not mount.writable,
            "volumeAttributes": {
                "bucketName": mount.source,
                "mountOptions": WORK_OPTIONS if mount.writable else DATA_OPTIONS,
            },
        },
    }
