"""Unfinished work of `ellav prepare`: what is done stays done, whatever ends the process.

OUT/.prepare holds `settings.json` (what is being made), the listing of the corpus, one chunk for each finished group of
utterances (written atomically, in any order, by any engine), locks, and the finished files until all of them can move
to OUT. Which chunks are there says what is left to do. Several processes may share it, each for a part (part_folder.py).
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from data_pipelines.records import WORK_FOLDER, Record
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, take_lock, write_bytes, write_json

_SETTINGS = "settings.json"


def listing_path(work: Path) -> Path:
    """The listing inside a work folder."""
    return work / "listing.jsonl"


def chunk_path(work: Path, group: int) -> Path:
    """The chunk of a group; it exists when the group is finished."""
    # Folders of a thousand: a file system slows down on 150,000 files in one.
    return work / f"chunks-{group // 1000:06d}" / f"{group:09d}.safetensors"


@dataclasses.dataclass(frozen=True)
class ChunkFacts:
    """What became of a group, without its records.

    size: utterances in it. rejected: lines of quarantine.jsonl. The seconds are of sound, of the aligner's processor
    time, and of the time that encoding took.
    """

    size: int
    rejected: Sequence[Mapping[str, str]]
    audio_seconds: float
    align_seconds: float
    encode_seconds: float


def write_chunk(path: Path, records: Sequence[tuple[str, Record]], facts: ChunkFacts) -> None:
    """Stores a group's records, with their splits, atomically. Raises OSError when the disk is full."""
    arrays = {f"{i:06d}": np.frombuffer(record.to_bytes(), np.uint8) for i, (_, record) in enumerate(records)}
    keys = [(split, record.id) for split, record in records]
    header = {"keys": keys, "facts": dataclasses.asdict(facts)}
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, safetensors.numpy.save(arrays, {"chunk": json.dumps(header)}))


def read_chunk(path: Path, places: Sequence[int] | None = None) -> list[Record]:
    """The records of a chunk (all, or those at `places`), in the order of the corpus. Raises InputError when damaged."""
    with _open_chunk(path) as (file, _):
        names = sorted(file.keys()) if places is None else [f"{place:06d}" for place in places]
        return [Record.from_bytes(file.get_tensor(name).tobytes(), str(path)) for name in names]


def read_chunk_keys(path: Path) -> list[tuple[str, str]]:
    """Split and id of each record of a chunk, from its head alone. Raises InputError when it is damaged."""
    with _open_chunk(path) as (_, header):
        return [tuple(key) for key in header["keys"]]


def read_chunk_facts(path: Path) -> ChunkFacts:
    """Reads the head of a chunk alone. Raises InputError when it is damaged."""
    with _open_chunk(path) as (_, header):
        return ChunkFacts(**header["facts"])


@contextlib.contextmanager
def _open_chunk(path: Path) -> Iterator[tuple[safetensors.safe_open, dict[str, Any]]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file, json.loads(file.metadata()["chunk"])
    except (safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); delete this file and prepare again") from None


class WorkFolder:
    """The one process that may write into OUT, and the chunks that are finished there."""

    def __init__(self, out: Path):
        """Takes over `out`: new, empty, or holding unfinished work.

        Raises InputError when `out` is something else, or another process is writing it.
        """
        self._out, self._made_out = out, not out.exists()
        self.path = make_work_folder(out)
        self.listing = listing_path(self.path)
        self._lock = take_lock(self.path / "lock", being_written(out))

    def take(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder's work one of these settings. Raises InputError when it holds work of others."""
        claim(self.path, self._out, settings)

    def finished(self) -> set[int]:
        """The groups whose chunks are there."""
        return finished_groups(self.path)

    def publish(self, out: Path, names: Sequence[str]) -> None:
        """Moves the finished parts to `out`, in order, and removes the work folder."""
        for name in names:
            os.replace(self.path / name, out / name)
        self._lock.close()
        # The data set is whole; a second `ellav prepare` that sees it may be removing this folder too.
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Lets go of the folder; what is done stays for the next run, and nothing is left where nothing was done."""
        if self.path.is_dir() and not (self.path / _SETTINGS).exists():
            shutil.rmtree(self.path)
            if self._made_out:
                self._out.rmdir()
        self._lock.close()


def make_work_folder(out: Path) -> Path:
    """The work folder of `out`, made if need be, perhaps by several processes at a time. Raises InputError when `out` is
    something else."""
    path = out / WORK_FOLDER
    if not path.is_dir():
        _check_free(out)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError, PermissionError) as error:
            reason = f"{error.strerror}: {error.filename}"
            raise InputError(f"{out}: can't be made ({reason}); choose another folder") from None
    return path


def being_written(out: Path) -> str:
    """What is said where another process has `out`."""
    return f"{out}: another `ellav prepare` is writing this data set; wait for it or stop it"


def finished_groups(work: Path) -> set[int]:
    """The groups whose chunks are in the work folder."""
    return {int(path.stem) for path in work.glob("chunks-*/*.safetensors")}


def claim(work: Path, out: Path, settings: Mapping[str, Any]) -> None:
    """Makes the work folder's work one of these settings. Raises InputError when it holds work of others."""
    if (work / _SETTINGS).exists():
        check_same_settings(out, stored_settings(work), settings)
    else:
        write_json(work / _SETTINGS, settings)


def stored_settings(work: Path) -> dict[str, Any]:
    """Settings of the work in the work folder."""
    return read_json(work / _SETTINGS, "settings of the unfinished data set")


def check_same_settings(out: Path, stored: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises InputError that names every setting in which `out` differs from what is asked for."""
    different = [name for name in {**stored, **settings} if stored.get(name) != settings.get(name)]
    if different:
        found = "; ".join(f"{name} {stored.get(name)!r} there, {settings.get(name)!r} now" for name in different)
        raise InputError(f"{out}: made with other settings ({found}); choose another folder, or delete this one")


def _check_free(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: exists and is not a folder; choose another name for the data set")
    # The work folder may have come since: another process makes a part of the same data set.
    if any(path.name != WORK_FOLDER for path in out.iterdir()):
        raise InputError(f"{out}: exists, is not empty and is not a data set; choose another folder")
