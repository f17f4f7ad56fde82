"""Folders of recordings as `ellav train-codec` reads them: decoded once, then mapped from a file."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from data_pipelines.audio import read_audio
from ellav_jax.codec.config import SAMPLE_RATE
from ellav_jax.errors import InputError, UnusableError
from ellav_jax.files import atomic_path
from ellav_jax.resampling import resample
from launch.progress import Progress

SUFFIXES = (".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav")


@dataclasses.dataclass(frozen=True)
class Recordings:
    """A folder's recordings one behind the other: samples, int16 [S] at 24 kHz. weight: the share that the user gave it,
    or None. count: recordings. unusable: messages, one for each that was left out."""

    folder: Path
    weight: float | None
    samples: np.ndarray
    count: int
    unusable: tuple[str, ...]

    @property
    def minutes(self) -> float:
        return len(self.samples) / SAMPLE_RATE / 60


def open_recordings(argument: str, cache: Path) -> Recordings:
    """The recordings of a folder, given as DIR or DIR:WEIGHT, at any depth and of any rate.

    cache: folder for the decoded samples; they are decoded again when a recording's name, size or time has changed. Raises
    InputError when there is no recording that can be used, and for a weight that is none.
    """
    folder, weight = _split_weight(argument)
    paths = list_recordings(folder)
    facts = [[path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    key = hashlib.sha256(json.dumps([str(folder.resolve()), facts]).encode()).hexdigest()[:16]
    samples_file, unusable_file = cache / f"audio_{key}.npy", cache / f"audio_{key}.json"
    if not samples_file.is_file():
        parts: list[np.ndarray] = []
        unusable: list[str] = []
        with Progress(f"decoding {folder}", "recording") as progress:
            for number, path in enumerate(paths):
                try:
                    parts.append(np.round(read_24_khz(path) * 32767).astype(np.int16))
                except UnusableError as error:
                    unusable.append(str(error))
                progress.update(number + 1, len(paths), f"({len(unusable)} unusable)" if unusable else "")
        if not parts:
            raise InputError(f"{folder}: none of its {len(paths)} recordings can be used; the first: {unusable[0]}")
        unusable_file.write_text(json.dumps(unusable), encoding="utf-8")
        with atomic_path(samples_file) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(parts))
    unusable = json.loads(unusable_file.read_text(encoding="utf-8"))
    samples_S = np.load(samples_file, mmap_mode="r")
    return Recordings(folder, weight, samples_S, len(paths) - len(unusable), tuple(unusable))


def list_recordings(folder: Path) -> list[Path]:
    """Sound files at any depth of a folder, sorted. Raises InputError when there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one of recordings ({', '.join(SUFFIXES)})")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"{folder}: no recordings in it; expected files that end in {', '.join(SUFFIXES)}")
    return found


def read_24_khz(path: Path) -> np.ndarray:
    """A recording, float32 [S] in [-1, 1] at 24 kHz. Raises UnusableError."""
    return resample(*read_audio(path), SAMPLE_RATE)


def _split_weight(argument: str) -> tuple[Path, float | None]:
    """The parts of DIR or DIR:WEIGHT. What exists under the whole name is a DIR, so a name may end in `:1`."""
    path, colon, weight = argument.rpartition(":")
    if not colon or Path(argument).exists():
        return Path(argument), None
    try:
        number = float(weight)
    except ValueError:
        return Path(argument), None
    if not 0 < number < float("inf"):
        raise InputError(f"{argument}: the weight is {weight}, expected a number above 0")
    return Path(path), number
