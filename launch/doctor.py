"""`ellav doctor`: what works on this machine; with --distributed, between the processes of a run."""

import dataclasses
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

import psutil
import tyro
from packaging.requirements import Requirement
from tyro.conf import arg

from ellav_jax.errors import InputError, RunError
from launch.cli import DISTRIBUTION, version
from launch.processes.distributed import ProcessGroup
from launch.processes.doctor_devices import ask_jax
from launch.processes.software import PACKAGES, installed

_GIB = 1 << 30
_ROOM = 1.0
"""GiB on a disk below which nothing useful can be done."""
_SECONDS = 120.0
"""For jax to find its devices: those of a TPU host take half a minute."""
_TOOLS = ("sbatch", "kubectl", "gcloud", "sky")
"""What `ellav launch` calls."""
OK, LESS, BROKEN = "ok", "-", "BROKEN"
"""States of a finding; what is there in part, or not at all, and is not essential, is LESS."""


@dataclasses.dataclass(frozen=True)
class DoctorArguments:
    """Says what works on this machine. With --distributed, or with --coordinator, --num-processes and --process-id, given to
    each process of a run: whether they can be one, as `ellav train` checks it at its start."""

    data: Annotated[tuple[Path, ...], arg(metavar="DIR"), tyro.conf.UseAppendAction] = ()
    """Data set to open; may be given again."""
    workdir: Annotated[Path | None, arg(metavar="W")] = None
    """Work directory of the run to come: is there room; do all processes share it?"""
    processes: Annotated[ProcessGroup, arg(name="")] = ProcessGroup()


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of the table. text: what was found, and what to do where it isn't OK."""

    name: str
    state: str
    text: str


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav doctor`. Raises RunError where something essential is broken, and as `preflight.join` does."""
    chosen = tyro.cli(DoctorArguments, args=arguments, prog="ellav doctor")
    if dataclasses.replace(chosen.processes, start_timeout=0) != ProcessGroup(start_timeout=0):
        from launch.processes import preflight

        preflight.join(chosen.processes, None, chosen.data, chosen.workdir)
        return
    broken = []
    for finding in examine(chosen.data, chosen.workdir):
        print(f"{finding.name:<12}{finding.state:<8}{finding.text}", flush=True)
        if finding.state == BROKEN:
            broken.append(finding.name)
    if broken:
        raise RunError(f"broken: {', '.join(dict.fromkeys(broken))}; the table says what to do")


def examine(data: Sequence[Path], workdir: Path | None) -> Iterator[Finding]:
    """All findings, one after the other."""
    yield Finding("python", OK, f"{platform.python_version()} at {sys.executable}")
    yield from packages()
    yield from extras()
    yield _trial("devices", lambda: devices(ask_jax(_SECONDS), Path("/dev"), os.environ.get("JAX_PLATFORMS")))
    yield _machine()
    yield _trial("espeak", _espeak)
    yield _trial("aligner", _aligner)
    yield _trial("codec", _codec)
    for path in data:
        yield _trial("data", lambda path=path: _data(path))
    yield disk("disk", workdir or Path.cwd())
    yield disk("disk", Path(tempfile.gettempdir()))
    there = [tool for tool in _TOOLS if shutil.which(tool)]
    without = [tool for tool in _TOOLS if tool not in there]
    lacking = f"; not on PATH: {', '.join(without)}" if without else ""
    yield Finding("launch", LESS if without else OK, f"{', '.join(there) or 'this machine alone'}{lacking}")


def packages() -> Iterator[Finding]:
    """What ellav-jax can't do without, against the versions that it asks for."""
    wanted = [requirement for requirement in _requirements() if requirement.marker is None]
    unfit = [requirement for requirement in wanted if not _fits(requirement)]
    versions = [f"{name} {found}" for name in PACKAGES if (found := installed(name))]
    yield Finding("packages", OK, f"{DISTRIBUTION} {version()}, {', '.join(versions)}")
    for one in unfit:
        found = installed(one.name)
        yield Finding(
            "packages",
            BROKEN,
            f"{one.name} {found or 'is not installed'}, expected {one.specifier}; pip install '{one}'",
        )


def extras() -> Iterator[Finding]:
    """What is optional, by the extra that brings it."""
    optional: dict[str, list[Requirement]] = {}
    for requirement in _requirements():
        for extra in _extras():
            if requirement.marker and requirement.marker.evaluate({"extra": extra}) and extra != "test":
                optional.setdefault(extra, []).append(requirement)
    complete = [extra for extra, parts in optional.items() if all(map(_fits, parts))]
    if complete:
        yield Finding("extras", OK, ", ".join(complete))
    for extra, parts in optional.items():
        lacking = ", ".join(str(part.name) + str(part.specifier) for part in parts if not _fits(part))
        if lacking:
            yield Finding("extras", LESS, f"{extra} lacks {lacking}; pip install '{DISTRIBUTION}[{extra}]'")


def devices(found: dict[str, object], folder: Path, asked: str | None) -> Finding:
    """found: as `ask_jax` has it. folder: of this machine's device files. asked: JAX_PLATFORMS."""
    memory = f", {found['memory'] / _GIB:.1f} GiB each" if found["memory"] else ""
    what = f"{found['count']} × {found['kind']} ({found['hardware']}){memory}"
    if found["error"] > 1e-4:
        return Finding(
            "devices",
            BROKEN,
            f"{what}: a matrix product is wrong by {found['error']:.1e}; try another device, or its driver",
        )
    kinds = {"GPU": "nvidia[0-9]*", "TPU": "accel[0-9]*"}
    idle = [kind for kind, files in kinds.items() if any(folder.glob(files))]
    if found["platform"] == "cpu" and idle and not asked:
        return Finding(
            "devices",
            BROKEN,
            f"{what}, and a {idle[0]} that jax does not use; install the jax for it "
            "(https://docs.jax.dev/en/latest/installation.html), or set JAX_PLATFORMS=cpu to leave it alone",
        )
    return Finding("devices", OK, what)


def disk(name: str, path: Path) -> Finding:
    """Room where `path` is, or will be."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    room = shutil.disk_usage(there).free / _GIB
    try:
        tempfile.NamedTemporaryFile(dir=there).close()  # rights alone don't tell: a file system may be read-only
    except OSError as error:
        return Finding(name, BROKEN, f"{there} can't be written ({error.strerror}); choose another --workdir")
    if room < _ROOM:
        return Finding(name, BROKEN, f"{there} has {room:.2f} GiB left; make room, at least {_ROOM:g} GiB")
    return Finding(name, OK, f"{there} has {room:.1f} GiB left")


def _machine() -> Finding:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    return Finding(
        "machine",
        OK,
        f"{platform.node()}: {cores} core{'s' * (cores > 1)}, {memory.total / _GIB:.1f} GiB memory, "
        f"{memory.available / _GIB:.1f} of them free",
    )


def _espeak() -> Finding:
    from ellav_jax.frontend.espeak import EspeakPronouncer

    phones = EspeakPronouncer("en-us", stress=True).pronounce("doctor")
    return Finding("espeak", OK, f"doctor → {' '.join(phones)}")


def _aligner() -> Finding:
    import pocketsphinx

    pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    return Finding("aligner", OK, f"pocketsphinx {installed('pocketsphinx')}")


def _codec() -> Finding:
    from ellav_jax.codec import load_codec_weights

    weights = load_codec_weights("bundled")
    return Finding("codec", OK, f"bundled, {weights.facts.sample_rate / 1000:g} kHz, sha256 {weights.sha256[:12]}")


def _data(path: Path) -> Finding:
    from data_pipelines.records import Dataset

    dataset = Dataset.open(path)
    splits = ", ".join(f"{dataset.info['splits'][split]['utterances']} of {split}" for split in dataset.splits)
    return Finding("data", OK, f"{path}: {splits}")


def _trial(name: str, examine: Callable[[], Finding]) -> Finding:
    """What an examination finds; whatever it stumbles over is a finding too."""
    try:
        return examine()
    except InputError as error:
        return Finding(name, BROKEN, str(error))
    except Exception as error:  # of other packages: the doctor goes on
        return Finding(name, BROKEN, f"{type(error).__name__}: {error}; install {DISTRIBUTION} anew (make venv)")


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return []


def _extras() -> list[str]:
    return metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []


def _fits(requirement: Requirement) -> bool:
    found = installed(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)
