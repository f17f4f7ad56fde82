"""Groups and shards on any Apache Beam runner: the same functions as on one machine, so the same bytes.

All machines must see the data set's folder, the recordings and the codec's file under the same paths (NFS, Lustre,
Filestore, a mounted bucket): only numbers of groups and, for the shards, records travel through Beam. Chunks that are
there stay, so a pipeline that failed continues, here or with the local engine.
"""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.group import GroupJob, make_chunk
from data_pipelines.merge import ShardKey, write_shard
from data_pipelines.records import Record, ShardContents, shard_name, shard_of
from data_pipelines.work_folder import ChunkFacts, WorkFolder, chunk_path, read_chunk, read_chunk_facts
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_json

_Entry = tuple[int, int, bytes]
"""A record on its way to its shard: group, place in its chunk, bytes."""


class BeamEngine:
    """Runs on the runner that `options` name (`--runner=FlinkRunner`, …): Beam's own command-line options.

    Raises InputError when apache-beam isn't installed.
    """

    def __init__(self, options: Sequence[str] = ()):
        try:
            import apache_beam  # noqa: F401
        except ImportError:
            raise InputError("--engine beam needs apache-beam: pip install 'ellav-jax[beam]'") from None
        # Beam's workers tell of each of their channels otherwise.
        self._options = ["--default_sdk_harness_log_level=ERROR", *options]
        logging.getLogger("apache_beam").setLevel(logging.ERROR)

    def groups(self, job: GroupJob, groups: Sequence[int]) -> Iterator[ChunkFacts]:
        """Makes the chunks of `groups`; yields their facts. Raises RuntimeError when the runner gives up."""
        import apache_beam as beam

        with self._pipeline() as pipeline:
            numbers = pipeline | beam.Create(list(groups)) | beam.Reshuffle()
            _ = numbers | "align and encode" >> beam.Map(_make_chunk, job)
        for group in groups:
            yield read_chunk_facts(chunk_path(job.work, group))

    def shards(self, work: WorkFolder, groups: int, keys: Sequence[ShardKey], shards: int) -> list[ShardContents]:
        """Writes the shards `keys` out of all chunks; returns their contents in the order of `keys`."""
        import apache_beam as beam

        with self._pipeline() as pipeline:
            numbers = pipeline | beam.Create(range(groups)) | beam.Reshuffle()
            records = numbers | "read chunks" >> beam.FlatMap(_keyed_entries, work.path, shards)
            # A shard without records is a file all the same.
            empty = pipeline | "all shards" >> beam.Create([(key, None) for key in keys])
            by_shard = (records, empty) | beam.Flatten() | beam.GroupByKey()
            _ = by_shard | "write shards" >> beam.Map(_write_shard, work.path, shards)
        return [_read_contents(work.path / shard_name(*key, shards)) for key in keys]

    def _pipeline(self) -> Any:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        return beam.Pipeline(options=PipelineOptions(self._options))


def _make_chunk(group: int, job: GroupJob) -> int:
    make_chunk(job, group)
    return group


def _keyed_entries(group: int, work: Path, shards: int) -> Iterator[tuple[ShardKey, _Entry]]:
    for place, (split, record) in enumerate(read_chunk(chunk_path(work, group))):
        yield (split, shard_of(record.id, shards)), (group, place, record.to_bytes())


def _write_shard(entries_of: tuple[ShardKey, Iterable[_Entry | None]], folder: Path, shards: int) -> ShardKey:
    key, entries = entries_of
    # In the order of the corpus, as one machine writes them.
    ordered = sorted(entry for entry in entries if entry is not None)
    contents = write_shard(folder, key, shards, (Record.from_bytes(data, str(key)) for _, _, data in ordered))
    fields = dataclasses.asdict(contents)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            fields[name] = [one.decode() for one in value] if value.dtype.kind == "S" else value.tolist()
    write_json(_contents_path(folder / contents.file), fields | {"speakers": sorted(contents.speakers)})
    return key


def _contents_path(shard: Path) -> Path:
    return shard.with_name(shard.name + ".json")


def _read_contents(shard: Path) -> ShardContents:
    fields = read_json(_contents_path(shard), "contents of a shard")
    return ShardContents(
        file=fields["file"],
        bytes=fields["bytes"],
        ids_N=np.array([one.encode() for one in fields["ids_N"]], dtype=np.bytes_),
        phones_N=np.array(fields["phones_N"], np.int32),
        frames_N=np.array(fields["frames_N"], np.int32),
        speakers=frozenset(fields["speakers"]),
    )
