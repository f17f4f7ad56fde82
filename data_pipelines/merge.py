"""Chunks → shards, and the files that describe a data set."""

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.corpora.utterance import Corpus
from data_pipelines.records import FORMAT, SCHEMA_VERSION, Record, ShardContents, ShardFile, shard_name, shard_of
from data_pipelines.work_folder import WorkFolder, chunk_path, read_chunk, read_chunk_facts, read_chunk_keys
from ellav_jax.codec.config import CodecFacts
from ellav_jax.files import atomic_path, write_json
from ellav_jax.frontend.frontend import Frontend

# Shards open at a time: below the usual limit of 1024 open files. More shards take more passes over the chunks.
_OPEN_SHARDS = 256

ShardKey = tuple[str, int]
"""Split and number of a shard."""


def write_shard(folder: Path, key: ShardKey, shards: int, records: Iterable[Record]) -> ShardContents:
    """Writes one shard of `records`, in their order, into `folder`, atomically: two may write it at the same time."""
    path = folder / shard_name(*key, shards)
    with atomic_path(path) as temporary:
        file = ShardFile(temporary)
        for record in records:
            file.write(record)
        contents = file.close()
    return dataclasses.replace(contents, file=path.name)


def shard_keys(chunk: Path, shards: int) -> list[ShardKey]:
    """The shard of each record of a chunk, from the chunk's head alone."""
    return [(split, shard_of(one, shards)) for split, one in read_chunk_keys(chunk)]


def shards_of_chunks(work: WorkFolder, groups: int, keys: Sequence[ShardKey], shards: int) -> list[ShardContents]:
    """Writes the shards `keys` out of all chunks, in this process; returns their contents in the order of `keys`."""
    contents: list[ShardContents] = []
    for first in range(0, len(keys), _OPEN_SHARDS):
        files = {key: ShardFile(work.path / shard_name(*key, shards)) for key in keys[first : first + _OPEN_SHARDS]}
        for group in range(groups):
            path = chunk_path(work.path, group)
            # Only the records of these shards are read: there may be several passes.
            wanted = [(place, files[key]) for place, key in enumerate(shard_keys(path, shards)) if key in files]
            for (_, file), record in zip(wanted, read_chunk(path, [place for place, _ in wanted]), strict=True):
                file.write(record)
        contents += [file.close() for file in files.values()]
    return contents


@dataclasses.dataclass(frozen=True)
class Totals:
    """Counts over all groups: utterances found and quarantined, by fault."""

    found: int
    faults: Mapping[str, int]

    @property
    def quarantined(self) -> int:
        return sum(self.faults.values())

    @property
    def written(self) -> int:
        return self.found - self.quarantined


def write_quarantine(work: WorkFolder, groups: int) -> Totals:
    """Writes quarantine.jsonl, in the order of the corpus, and counts."""
    found, faults = 0, collections.Counter()

    def lines() -> Iterator[bytes]:
        nonlocal found
        for group in range(groups):
            facts = read_chunk_facts(chunk_path(work.path, group))
            found += facts.size
            for line in facts.rejected:
                faults[line["reason"]] += 1
                yield (json.dumps(line, ensure_ascii=False) + "\n").encode()

    with atomic_path(work.path / "quarantine.jsonl") as temporary, open(temporary, "wb") as file:
        file.writelines(lines())
    return Totals(found, dict(faults.most_common()))


def describe(
    work: WorkFolder,
    corpus: Corpus,
    codec: CodecFacts,
    frontend: Frontend,
    settings: Mapping[str, Any],
    totals: Totals,
    keys: Sequence[ShardKey],
    contents: Sequence[ShardContents],
) -> list[str]:
    """Writes lengths.npz, frontend.json and dataset.json; returns the names of all files of the data set.

    dataset.json comes last: it marks the data set as whole. Splits without a usable utterance are left out.
    """
    splits, lengths, names = {}, {}, []
    for split, members in itertools.groupby(zip(keys, contents, strict=True), key=lambda pair: pair[0][0]):
        shards = [one for _, one in members]
        frames_N = np.concatenate([one.frames_N for one in shards])
        if not len(frames_N):
            continue
        phones_N, ids_N = (np.concatenate([getattr(one, name) for one in shards]) for name in ("phones_N", "ids_N"))
        splits[split] = {
            "utterances": len(frames_N),
            "speakers": len(frozenset().union(*(one.speakers for one in shards))),
            "hours": int(frames_N.sum()) / codec.frame_rate / 3600,
            "frames": int(frames_N.sum()),
            "phones": int(phones_N.sum()),
            "shards": [one.line for one in shards],
        }
        lengths |= {f"{split}/ids": ids_N, f"{split}/phones": phones_N, f"{split}/frames": frames_N}
        names += [one.file for one in shards]
    description = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "corpus": {"name": corpus.name, "licence": corpus.licence, "attribution": corpus.attribution},
        "codec": dataclasses.asdict(codec),
        "aligner": frontend.aligner,
        "phones": list(frontend.phones),
        "utterances": {
            "found": totals.found,
            "written": totals.written,
            "quarantined": totals.quarantined,
            "reasons": totals.faults,
        },
        "splits": splits,
        "settings": settings,
    }
    with open(work.path / "lengths.npz", "wb") as file:
        np.savez(file, **lengths)
    frontend.to_json(work.path / "frontend.json")
    write_json(work.path / "dataset.json", description)
    return [*names, "lengths.npz", "quarantine.jsonl", "frontend.json", "dataset.json"]
