"""Groups and shards on any Apache Beam runner: the same functions as on one machine, so the same bytes.

All machines must see the data set's folder, the recordings and the codec's file under the same paths (NFS, Lustre,
Filestore, a mounted bucket): only numbers travel through Beam. Chunks that are
there stay, so a pipeline that failed continues, here or with the local engine.
"""

import contextlib
import dataclasses
import io
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.group import GroupJob, make_chunk
from data_pipelines.merge import ShardKey, shard_keys, write_shard
from data_pipelines.records import Record, ShardContents, shard_name
from data_pipelines.work_folder import ChunkFacts, WorkFolder, chunk_path, read_chunk, read_chunk_facts
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_json

_Place = tuple[int, int]
"""Where a record of a shard is: group, and place in its chunk. The record itself doesn't travel through Beam."""


class BeamEngine:
    """Runs on the runner that `options` name (`--runner=FlinkRunner`, …): Beam's own command-line options.

    Raises InputError when apache-beam isn't installed or refuses the options.
    """

    def __init__(self, options: Sequence[str] = ()):
        try:
            import apache_beam  # noqa: F401
        except ImportError:
            raise InputError("--engine beam needs apache-beam: pip install 'ellav-jax[beam]'") from None
        # Beam's workers tell of each of their channels otherwise.
        self._options = ["--default_sdk_harness_log_level=ERROR", *options]
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                self._pipeline().options.get_all_options()  # else values are parsed when they are needed
        except (Exception, SystemExit) as error:
            reason = said.getvalue().strip().splitlines()[-1:] or [str(error)]
            raise InputError(f"Beam refuses the options {' '.join(options)}: {reason[0]}") from None
        logging.getLogger("apache_beam").setLevel(logging.ERROR)

    def groups(self, job: GroupJob, groups: Sequence[int]) -> Iterator[ChunkFacts]:
        """Makes the chunks of `groups`; yields their facts. Raises RuntimeError when the runner gives up."""
        import apache_beam as beam

        with _readable_errors(), self._pipeline() as pipeline:
            numbers = pipeline | beam.Create(list(groups)) | beam.Reshuffle()
            _ = numbers | "align and encode" >> beam.Map(_make_chunk, job)
        for group in groups:
            yield read_chunk_facts(chunk_path(job.work, group))

    def shards(self, work: WorkFolder, groups: int, keys: Sequence[ShardKey], shards: int) -> list[ShardContents]:
        """Writes the shards `keys` out of all chunks; returns their contents in the order of `keys`."""
        import apache_beam as beam

        with _readable_errors(), self._pipeline() as pipeline:
            numbers = pipeline | beam.Create(range(groups)) | beam.Reshuffle()
            records = numbers | "read keys" >> beam.FlatMap(_keyed_places, work.path, shards)
            # A shard without records is a file all the same.
            empty = pipeline | "all shards" >> beam.Create([(key, None) for key in keys])
            by_shard = (records, empty) | beam.Flatten() | beam.GroupByKey()
            _ = by_shard | "write shards" >> beam.Map(_write_shard, work.path, shards)
        return [_read_contents(work.path / shard_name(*key, shards)) for key in keys]

    def _pipeline(self) -> Any:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        return beam.Pipeline(options=PipelineOptions(self._options))


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Beam hands a worker's error on as the text of its traceback: bad input and a full disk become what they were."""
    try:
        yield
    except Exception as error:
        text = re.sub(r" \[while running .*?\]", "", str(error))
        if isinstance(error, InputError):
            raise InputError(text) from None
        if found := re.findall(r"^(?:\w+\.)*(?:Input|Unusable)Error: (.+)$", text, re.MULTILINE):
            raise InputError(found[-1]) from None
        if found := re.findall(r"OSError: \[Errno (\d+)\] .*?(?:: '(.+?)')?$", text, re.MULTILINE):
            number, path = int(found[-1][0]), found[-1][1]
            raise OSError(number, os.strerror(number), *([path] if path else [])) from None
        raise


def _make_chunk(group: int, job: GroupJob) -> int:
    make_chunk(job, group)
    return group


def _keyed_places(group: int, work: Path, shards: int) -> Iterator[tuple[ShardKey, _Place]]:
    for place, key in enumerate(shard_keys(chunk_path(work, group), shards)):
        yield key, (group, place)


def _write_shard(places_of: tuple[ShardKey, Iterable[_Place | None]], folder: Path, shards: int) -> ShardKey:
    key, places = places_of
    # In the order of the corpus, as one machine writes them.
    ordered = sorted(place for place in places if place is not None)

    def records() -> Iterator[Record]:
        for group, members in itertools.groupby(ordered, key=lambda place: place[0]):
            yield from read_chunk(chunk_path(folder, group), [place for _, place in members])

    contents = write_shard(folder, key, shards, records())
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
