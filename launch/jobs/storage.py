"""Where a job in a cloud finds its data sets and its work directory: buckets and NFS exports, mounted as directories.

Training reads and writes directories: it appends, renames and locks. So each location is mounted, and the job sees a path.
"""

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction

from ellav_jax.errors import InputError

MOUNTS = "/mnt/ellav"
_SCHEMES = {"gs": "gs://BUCKET/PATH", "s3": "s3://BUCKET/PATH", "nfs": "nfs://SERVER/EXPORT/PATH"}


@dataclasses.dataclass(frozen=True)
class Mount:
    """A bucket (`source`: its name) or an NFS export (`source`: SERVER:/EXPORT) at `directory`."""

    kind: str
    source: str
    directory: str
    writable: bool


@dataclasses.dataclass(frozen=True)
class Storage:
    """What a job mounts, and the paths under which it then finds what was asked for.

    data: with their weights, as `ellav train --data` takes them.
    """

    mounts: tuple[Mount, ...]
    data: tuple[str, ...]
    workdir: str
    init_from: str | None


def lay_out(data: Sequence[str], workdir: str, init_from: str | None, schemes: Sequence[str], target: str) -> Storage:
    """Mounts for these locations: one that can be written, for the work directory, and one for each other source.

    Data and work directory in one bucket are two mounts of it: what is only read may be cached. schemes: those that
    `target`, named in the errors, can mount. Raises InputError for other locations.
    """
    kind, source, path = _parse(workdir, "--workdir", schemes, target)
    mounts = [Mount(kind, source, f"{MOUNTS}/work", True)]
    work = f"{mounts[0].directory}/{path}"
    reading: dict[tuple[str, str], Mount] = {}

    def read(location: str, option: str) -> str:
        kind, source, path = _parse(location, option, schemes, target)
        mount = reading.setdefault((kind, source), Mount(kind, source, f"{MOUNTS}/data-{len(reading)}", False))
        return f"{mount.directory}/{path}"

    paths = []
    for argument in data:
        location, weight = split_weight(argument)
        paths.append(read(location, "--data") + weight)
    init = init_from and read(init_from, "--init-from")
    return Storage((*mounts, *reading.values()), tuple(paths), work, init)


def split_weight(argument: str) -> tuple[str, str]:
    """LOCATION or LOCATION:WEIGHT → the location, and ":WEIGHT" or nothing."""
    location, colon, weight = argument.rpartition(":")
    try:
        Fraction(weight)
    except (ValueError, ZeroDivisionError):
        return argument, ""
    return (location, f":{weight}") if colon else (argument, "")


def _parse(location: str, option: str, schemes: Sequence[str], target: str) -> tuple[str, str, str]:
    """Kind, source and path inside it."""
    forms = " or ".join(_SCHEMES[scheme] for scheme in schemes)
    match = re.fullmatch(r"(\w+)://([^/\s]+)/+(\S*[^/\s])/*", location)
    if match is None or match[1] not in schemes:
        raise InputError(
            f"{option} {location}: a job on {target} sees no directory of this machine; give {forms}, which it mounts"
        )
    kind, host, path = match.groups()
    if {".", ".."} & set(path.split("/")):
        raise InputError(f"{option} {location}: expected a path without . and ..")
    if kind != "nfs":
        return kind, host, path
    export, _, path = path.partition("/")
    if not path:
        raise InputError(
            f"{option} {location}: expected {_SCHEMES['nfs']}; the first name is the export, the rest the path"
        )
    return kind, f"{host}:/{export}", path


def copy_command(file: str, location: str) -> list[str] | None:
    """Command that copies a local file to a location in a bucket; None for what this machine can't reach."""
    if location.startswith("gs://"):
        return ["gcloud", "storage", "cp", file, location]
    return ["aws", "s3", "cp", file, location] if location.startswith("s3://") else None


def list_command(location: str) -> list[str] | None:
    """Command that fails where a bucket has no such object; None for what this machine can't reach."""
    if location.startswith("gs://"):
        return ["gcloud", "storage", "ls", location]
    return ["aws", "s3", "ls", location] if location.startswith("s3://") else None
