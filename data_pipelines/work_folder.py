"""Unfinished work of `ellav prepare`: what is done stays done, whatever ends the process.

OUT/.prepare holds `settings.json` (what is being made), one file for each finished chunk of utterances (their records
and rejections, written atomically), a lock, and the finished parts until all of them can move to OUT. Chunks follow
each other in the order of the corpus, so the number of utterances in them is where to continue.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy

from data_pipelines.records import WORK_FOLDER, Record
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_bytes, write_json


class WorkFolder:
    """The one process that may write into OUT, and the chunks that earlier processes finished there."""

    def __init__(self, out: Path, settings: Mapping[str, Any]):
        """Takes over `out`: new, empty, or holding unfinished work of the same settings.

        Raises InputError when `out` is something else, holds work of other settings, or another process is writing it.
        """
        self.path = out / WORK_FOLDER
        if not self.path.is_dir():
            _check_free(out)
            try:
                self.path.mkdir(parents=True)
            except (NotADirectoryError, FileExistsError, PermissionError) as error:
                reason = f"{error.strerror}: {error.filename}"
                raise InputError(f"{out}: can't be made ({reason}); choose another folder") from None
        self._lock = _lock(self.path / "lock", out)
        stored = self.path / "settings.json"
        if stored.exists():
            check_same_settings(out, read_json(stored, "settings of the unfinished data set"), settings)
        else:
            write_json(stored, settings)
        # How many utterances of the corpus are done. The name of a chunk says where it begins and ends.
        self.done = max((int(path.stem.split("-")[2]) for path in self._chunk_paths()), default=0)

    def write_chunk(self, records: Sequence[Record], rejected: Sequence[Mapping[str, str]]) -> None:
        """Stores the next finished utterances of the corpus. Raises OSError when the disk is full."""
        arrays = {f"{i:06d}": np.frombuffer(record.to_bytes(), np.uint8) for i, record in enumerate(records)}
        path = self.path / f"chunk-{self.done:09d}-{self.done + len(records) + len(rejected):09d}.safetensors"
        write_bytes(path, safetensors.numpy.save(arrays, {"rejected": json.dumps(list(rejected))}))
        self.done += len(records) + len(rejected)

    def chunks(self) -> Iterator[tuple[list[Record], list[dict[str, str]]]]:
        """The records and rejections of each finished chunk, in the order of the corpus."""
        for path in self._chunk_paths():
            try:
                with safetensors.safe_open(path, framework="numpy") as file:
                    data = [file.get_tensor(name).tobytes() for name in sorted(file.keys())]
                    rejected = json.loads(file.metadata()["rejected"])
            except safetensors.SafetensorError as error:
                raise InputError(f"{path}: damaged ({error}); delete {self.path} and prepare again") from None
            yield [Record.from_bytes(one, str(path)) for one in data], rejected

    def publish(self, out: Path, names: Sequence[str]) -> None:
        """Moves the finished parts to `out`, in order, and removes the work folder."""
        for name in names:
            os.replace(self.path / name, out / name)
        self._lock.close()
        shutil.rmtree(self.path)

    def close(self) -> None:
        """Lets go of the folder; what is done stays for the next run."""
        self._lock.close()

    def _chunk_paths(self) -> list[Path]:
        return sorted(self.path.glob("chunk-*.safetensors"))


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
    if any(out.iterdir()):
        raise InputError(f"{out}: exists, is not empty and is not a data set; choose another folder")


def _lock(path: Path, out: Path) -> IO[bytes]:
    # The kernel lets go of the lock when the process dies, however it dies.
    file = open(path, "wb")  # noqa: SIM115 - held until close()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(f"{out}: another `ellav prepare` is writing this data set; wait for it or stop it") from None
    return file
