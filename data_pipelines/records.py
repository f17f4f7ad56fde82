"""What one entry of a data set holds, and the data set as a whole.

A data set is a folder: `dataset.json` (what it is), `frontend.json` (text and phones),
`SPLIT-0000i-of-0000n.array_record` (entries of safetensors bytes), `lengths.npz` (phones and frames of every entry, to
plan rows without reading them) and `quarantine.jsonl` (what could not be used, and why).
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import safetensors
import safetensors.numpy
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from ellav_jax.errors import InputError
from ellav_jax.files import read_json
from ellav_jax.frontend.frontend import Frontend

FORMAT = "ellav-jax data set"
SCHEMA_VERSION = 1
# Where `ellav prepare` keeps unfinished work, inside the data set's folder.
WORK_FOLDER = ".prepare"


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One utterance, ready to train on.

    phones_N: uint16 [N], ids in the frontend's phone inventory. durations_N: int32 [N], codec frames of each phone, all
    at least 1. codes_Tx8: uint16 [T, 8], RVQ codes, first codebook first; T is the sum of the durations.
    """

    id: str
    text: str
    speaker: str
    phones_N: np.ndarray
    durations_N: np.ndarray
    codes_Tx8: np.ndarray

    def __post_init__(self) -> None:
        """Raises InputError unless dtypes, shapes, durations and codes agree."""
        wanted = {"phones_N": ("uint16", 1), "durations_N": ("int32", 1), "codes_Tx8": ("uint16", 2)}
        for name, (dtype, dimensions) in wanted.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != dimensions:
                raise InputError(
                    f"record {self.id}: {name} is {array.dtype} {list(array.shape)}, expected {dtype} with "
                    f"{dimensions} dimension{'s' * (dimensions > 1)}"
                )
        if self.num_phones == 0 or len(self.durations_N) != self.num_phones:
            raise InputError(
                f"record {self.id}: {self.num_phones} phones and {len(self.durations_N)} durations; "
                f"expected as many of each, and at least one"
            )
        if self.durations_N.min() < 1:
            raise InputError(f"record {self.id}: a phone lasts {self.durations_N.min()} frames; expected at least 1")
        if (covered := int(self.durations_N.sum())) != self.num_frames:
            raise InputError(
                f"alignment of {self.id} covers {covered} frames, codes have {self.num_frames}; "
                f"they must come from the same samples: prepare the data set again"
            )

    @property
    def num_phones(self) -> int:
        return len(self.phones_N)

    @property
    def num_frames(self) -> int:
        return len(self.codes_Tx8)

    def to_bytes(self) -> bytes:
        """Safetensors bytes; equal records give equal bytes."""
        # One metadata key only: safetensors writes several in random order.
        words = json.dumps({"id": self.id, "text": self.text, "speaker": self.speaker}, ensure_ascii=False)
        arrays = {"phones": self.phones_N, "durations": self.durations_N, "codes": self.codes_Tx8}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return safetensors.numpy.save(arrays, metadata={"utterance": words})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Record":
        """The inverse of `to_bytes`; `where` names the source in errors.

        Raises InputError for bytes that aren't a record.
        """
        try:
            arrays = safetensors.numpy.load(data)
            header_size = int.from_bytes(data[:8], "little")
            words = json.loads(json.loads(data[8 : 8 + header_size])["__metadata__"]["utterance"])
            return cls(
                id=words["id"],
                text=words["text"],
                speaker=words["speaker"],
                phones_N=arrays["phones"],
                durations_N=arrays["durations"],
                codes_Tx8=arrays["codes"],
            )
        except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise InputError(f"{where}: not a record ({error!r}); prepare the data set again") from None


def shard_of(utterance_id: str, shards: int) -> int:
    """The shard of an utterance: a function of its id alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(utterance_id.encode()).digest()[:8], "big") % shards


class ShardWriter:
    """Writes one split as `shards` ArrayRecord files into `folder`; they are whole once `close` has returned."""

    def __init__(self, folder: Path, split: str, shards: int):
        self._paths = [folder / f"{split}-{i:05d}-of-{shards:05d}.array_record" for i in range(shards)]
        self._writers = [ArrayRecordWriter(str(path), "group_size:1") for path in self._paths]
        self._lengths: list[list[tuple[str, int, int]]] = [[] for _ in range(shards)]

    def write(self, record: Record) -> None:
        """Appends the record to the shard that its id asks for. Raises OSError when the disk is full."""
        shard = shard_of(record.id, len(self._writers))
        with _array_record_errors(self._paths[shard]):
            self._writers[shard].write(record.to_bytes())
        self._lengths[shard].append((record.id, record.num_phones, record.num_frames))

    def close(self) -> list[dict[str, Any]]:
        """Flushes all shards to the disk; returns their lines in dataset.json. Raises OSError when the disk is full."""
        shards = []
        for path, writer, lengths in zip(self._paths, self._writers, self._lengths, strict=True):
            with _array_record_errors(path):
                writer.close()
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            shards.append({"file": path.name, "records": len(lengths), "bytes": path.stat().st_size})
        return shards

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """`ids` (UTF-8 bytes [N]), `phones` and `frames` (int32 [N]) in the order of the shards' entries."""
        rows = [row for shard in self._lengths for row in shard]
        return {
            "ids": np.array([row[0].encode() for row in rows], dtype=np.bytes_),
            "phones": np.array([row[1] for row in rows], dtype=np.int32),
            "frames": np.array([row[2] for row in rows], dtype=np.int32),
        }


class RecordSource:
    """Random access to the entries of a split: `len(source)`, `source[index] -> Record`. For threads and processes."""

    def __init__(self, folder: Path, shards: Sequence[Mapping[str, Any]]):
        self._shards = [_Shard(str(folder / shard["file"]), shard["records"]) for shard in shards if shard["records"]]
        self._ends = np.cumsum([shard.take for shard in self._shards])
        # The counts are known, so no file is opened before its first entry is asked for.
        self._entries = ArrayRecordDataSource(self._shards)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: SupportsIndex) -> Record:
        """Raises IndexError outside [0, len), InputError for an entry that is damaged (naming the file)."""
        index = index.__index__()
        if not 0 <= index < len(self):
            raise IndexError(f"entry {index} of {len(self)}")
        path = self._shards[int(np.searchsorted(self._ends, index, side="right"))].filename
        try:
            data = self._entries[index]
        except (RuntimeError, IndexError) as error:
            raise InputError(f"{path}: damaged ({error}); copy it again or prepare the data set again") from None
        return Record.from_bytes(data, f"{path}, entry {index} of its split")


class Dataset:
    """A finished data set on disk. Reading needs neither a device nor jax."""

    def __init__(self, path: Path, info: Mapping[str, Any], frontend: Frontend, lengths: Mapping[str, np.ndarray]):
        self.path, self.info, self.frontend = path, info, frontend
        self._lengths = lengths

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Opens what `ellav prepare` wrote.

        Raises InputError when `path` is not a data set, is unfinished, was written by a newer version, or when a file
        of it is missing, of another size than written, or disagrees with the others.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such data set; make one with: ellav prepare bundled {path}")
        if not (path / "dataset.json").exists():
            if (path / WORK_FOLDER).is_dir():
                raise InputError(f"{path}: the data set is not finished; give the same `ellav prepare` command again")
            raise InputError(f"{path}: not a data set (it has no dataset.json)")
        info = read_json(path / "dataset.json", "data set description")
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise InputError(f"{path / 'dataset.json'}: not the description of an {FORMAT}")
        if info["schema_version"] > SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema version {info['schema_version']}, this ellav-jax reads up to {SCHEMA_VERSION}; "
                f"upgrade it or prepare the data set again"
            )
        for split in info["splits"].values():
            for shard in split["shards"]:
                _check_shard(path / shard["file"], shard["bytes"])
        frontend = Frontend.from_json(path / "frontend.json")
        if list(frontend.phones) != info["phones"]:
            raise InputError(f"{path}: frontend.json and dataset.json list different phones; prepare it again")
        return cls(path, info, frontend, _read_lengths(path / "lengths.npz", info["splits"]))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold at least one entry."""
        return tuple(self.info["splits"])

    def records(self, split: str) -> RecordSource:
        """The entries of `split`. Raises InputError for a split that isn't there."""
        return RecordSource(self.path, self._split(split)["shards"])

    def lengths(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(phones int32 [N], frames int32 [N]) of each entry of `split`, in the order of `records(split)`."""
        self._split(split)
        return self._lengths[f"{split}/phones"], self._lengths[f"{split}/frames"]

    def ids(self, split: str) -> list[str]:
        """Utterance ids of `split`, in the order of `records(split)`."""
        self._split(split)
        return [utterance_id.decode() for utterance_id in self._lengths[f"{split}/ids"]]

    def _split(self, split: str) -> Mapping[str, Any]:
        if split not in self.info["splits"]:
            raise InputError(f"{self.path}: no split {split!r}; it has: {', '.join(self.splits)}")
        return self.info["splits"][split]


@dataclasses.dataclass(frozen=True)
class _Shard:
    """One shard read as a whole, in the form that ArrayRecordDataSource asks for."""

    filename: str
    take: int
    skip: int = 0

    @property
    def examples_in_shard(self) -> int:
        return self.take


def _check_shard(path: Path, size: int) -> None:
    # ArrayRecord takes a file that was cut off for one without entries, so the size is checked here.
    if not path.exists():
        raise InputError(f"{path}: this shard of the data set is missing; copy it again or prepare the data set again")
    if (found := path.stat().st_size) != size:
        raise InputError(
            f"{path}: {found} bytes, dataset.json says {size}; copy it again or prepare the data set again"
        )


def _read_lengths(path: Path, splits: Mapping[str, Any]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            lengths = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"{path}: missing; copy it again or prepare the data set again") from None
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); copy it again or prepare the data set again") from None
    for split, description in splits.items():
        for name in ("ids", "phones", "frames"):
            found = len(lengths.get(f"{split}/{name}", ()))
            if found != description["utterances"]:
                raise InputError(
                    f"{path}: {found} entries in {split}/{name}, dataset.json says {description['utterances']}; "
                    f"prepare the data set again"
                )
    return lengths


@contextlib.contextmanager
def _array_record_errors(path: Path) -> Iterator[None]:
    """Turns ArrayRecord's RuntimeError for a full disk into the OSError that it was."""
    try:
        yield
    except RuntimeError as error:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from None
        raise
