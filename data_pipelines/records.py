"""What one entry of a data set holds, and the data set as a whole.

A data set is a folder: `dataset.json` (what it is), `frontend.json` (text and phones),
`SPLIT-0000i-of-0000n.array_record` (entries of safetensors bytes), `lengths.npz` (phones and frames of every entry, to
plan rows without reading them) and `quarantine.jsonl` (what could not be used, and why).
"""

import array
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


class ShardFile:
    """Writes one shard, an ArrayRecord file; it is whole once `close` has returned."""

    def __init__(self, path: Path):
        self._path = path
        self._writer = ArrayRecordWriter(str(path), "group_size:1")
        # Of all shards together, millions: arrays, and no objects.
        self._ids: list[bytes] = []
        self._phones, self._frames = array.array("i"), array.array("i")
        self._speakers: set[str] = set()

    def write(self, record: Record) -> None:
        """Appends the record. Raises OSError when the disk is full."""
        with _array_record_errors(self._path):
            self._writer.write(record.to_bytes())
        self._ids.append(record.id.encode())
        self._phones.append(record.num_phones)
        self._frames.append(record.num_frames)
        self._speakers.add(record.speaker)

    def close(self) -> "ShardContents":
        """Flushes the shard to the disk. Raises OSError when the disk is full."""
        with _array_record_errors(self._path):
            self._writer.close()
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())
        return ShardContents(
            file=self._path.name,
            bytes=self._path.stat().st_size,
            ids_N=np.array(self._ids, dtype=np.bytes_),
            phones_N=np.array(self._phones, dtype=np.int32),
            frames_N=np.array(self._frames, dtype=np.int32),
            speakers=frozenset(self._speakers),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ShardContents:
    """What a shard holds: ids_N (UTF-8 bytes), phones_N and frames_N (int32) of its entries, in their order."""

    file: str
    bytes: int
    ids_N: np.ndarray
    phones_N: np.ndarray
    frames_N: np.ndarray
    speakers: frozenset[str]

    @property
    def line(self) -> dict[str, Any]:
        """The shard's entry in dataset.json."""
        return {"file": self.file, "records": len(self.ids_N), "bytes": self.bytes}


def shard_name(split: str, shard: int, shards: int) -> str:
    """File name of a shard."""
    return f"{split}-{shard:05d}-of-{shards:05d}.array_record"


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
            if os.strerror(errno.EMFILE) in str(error):
                raise InputError(f"{path}: too many open files; raise the limit with: ulimit -n 65536") from None
            raise InputError(f"{path}: damaged ({error}); copy it again or prepare the data set again") from None
        return Record.from_bytes(data, f"{path}, entry {index} of its split")


class Dataset:
    """A finished data set on disk. Reading needs neither a device nor jax."""

    def __init__(self, path: Path, info: Mapping[str, Any], frontend: Frontend, lengths: Mapping[str, np.ndarray]):
        self.path, self.info, self.frontend = path, info, frontend
        self._lengths = lengths
        self._records: dict[str, RecordSource] = {}

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
        # One for all who ask: each keeps a file open for each shard.
        if split not in self._records:
            self._records[split] = RecordSource(self.path, self._split(split)["shards"])
        return self._records[split]

    def lengths(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(phones int32 [N], frames int32 [N]) of each entry of `split`, in the order of `records(split)`."""
        self._split(split)
        return self._lengths[f"{split}/phones"], self._lengths[f"{split}/frames"]

    def ids(self, split: str) -> list[str]:
        """Utterance ids of `split`, in the order of `records(split)`. They are read here, not kept: they can be many."""
        self._split(split)
        with _open_lengths(self.path / "lengths.npz") as file:
            return [utterance_id.decode() for utterance_id in file[f"{split}/ids"].tolist()]

    def digest(self, split: str) -> str:
        """SHA-256 of ids and lengths of `split`, in order: two data sets that share it have the same entries' numbers."""
        digest = hashlib.sha256()
        with _open_lengths(self.path / "lengths.npz") as file:
            digest.update(file[f"{split}/ids"])
        for lengths_N in self.lengths(split):
            digest.update(lengths_N)
        return digest.hexdigest()

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
    """Phones and frames of each split; of the ids, ten times as large, only the number is looked at."""
    lengths = {}
    with _open_lengths(path) as file:
        for split, description in splits.items():
            for name, dtype in (("ids", np.bytes_), ("phones", np.int32), ("frames", np.int32)):
                key = f"{split}/{name}"
                if (entries := _entries(file, key, dtype)) != description["utterances"]:
                    raise InputError(
                        f"{path}: {entries} entries in {key}, dataset.json says {description['utterances']}; "
                        f"prepare the data set again"
                    )
                if name != "ids":
                    lengths[key] = file[key]
    return lengths


def _entries(file: np.lib.npyio.NpzFile, key: str, dtype: type[np.generic]) -> int:
    """Length of an array in an open .npz, from its head alone; 0 where it is missing."""
    if key not in file:
        return 0
    with file.zip.open(f"{key}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, found = np.lib.format.read_array_header_1_0(member)
    if not np.issubdtype(found, dtype) or len(shape) != 1:
        raise ValueError(f"{key} is {found} {list(shape)}, expected {dtype.__name__} [N], nothing pickled")
    return shape[0]


@contextlib.contextmanager
def _open_lengths(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("not an .npz file")
        with file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: missing; copy it again or prepare the data set again") from None
    except InputError:  # a ValueError itself
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); copy it again or prepare the data set again") from None


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
