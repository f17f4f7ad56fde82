"""Recordings and transcripts → a data set: list, align, trim, encode, write shards.

The result is a function of the corpus, the codec and the frontend alone: not of the number of workers, of the engine, nor
of how often the work was interrupted. What is finished is kept group by group (work_folder.py), so a second run
continues the first, and several machines can each make a part (part_folder.py).
"""

import collections
import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from data_pipelines import merge
from data_pipelines.align import AlignmentJob
from data_pipelines.corpora.utterance import Corpus
from data_pipelines.group import GroupJob
from data_pipelines.listing import CorpusFacts, Listing, list_corpus
from data_pipelines.merge import ShardKey, Totals
from data_pipelines.part_folder import Part, PartFolder
from data_pipelines.records import SCHEMA_VERSION, WORK_FOLDER, Dataset, ShardContents
from data_pipelines.textgrid_folder import TextGridFolder
from data_pipelines.work_folder import (
    ChunkFacts,
    WorkFolder,
    check_same_settings,
    chunk_path,
    listing_path,
    read_chunk_facts,
)
from ellav_jax.codec import NAMES
from ellav_jax.codec.config import CodecFacts
from ellav_jax.errors import InputError
from ellav_jax.files import read_json
from ellav_jax.frontend.frontend import Frontend

ProgressReport = Callable[[int, int, int], None]


class Engine(Protocol):
    """What prepares groups and writes shards: `LocalPrepare` on one machine, `BeamPrepare` on many."""

    def groups(self, job: GroupJob, groups: Sequence[int]) -> Iterable[ChunkFacts]:
        """Makes the chunks of `groups`; yields the facts of each that is stored, in any order."""

    def shards(self, work: WorkFolder, groups: int, keys: Sequence[ShardKey], shards: int) -> Sequence[ShardContents]:
        """Writes the shards `keys` out of all chunks; returns their contents in the order of `keys`."""


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Choices that the data set depends on.

    shards: files a split. limit: only the first so many utterances of each split, for trials. Recordings outside
    min_seconds … max_seconds are set aside; the default admits the longest of the bundled clips (73 s). group_size:
    utterances aligned, encoded and stored together: an interruption costs at most one group a worker.
    """

    shards: int = 8
    limit: int | None = None
    min_seconds: float = 0.1
    max_seconds: float = 120.0
    group_size: int = 32

    def __post_init__(self) -> None:
        """Raises InputError for values below 1 (seconds: 0 or less)."""
        counts = self.shards, self.limit if self.limit is not None else 1, self.group_size
        if min(counts) < 1 or self.min_seconds < 0 or self.max_seconds <= self.min_seconds:
            raise InputError(
                f"{self}: shards, limit and group_size must be at least 1, max_seconds above min_seconds, and that 0 or more"
            )


@dataclasses.dataclass
class PrepareSummary:
    """Counts of the whole data set, or of a part, and the times of this run (s; aligning and encoding: summed over
    workers). groups_left: behind a part, how many groups of other parts are not there yet."""

    found: int
    written: int = 0
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    continued_from: int = 0
    audio_seconds: float = 0.0
    align_seconds: float = 0.0
    encode_seconds: float = 0.0
    wall_seconds: float = 0.0
    groups_left: int | None = None

    @property
    def quarantined(self) -> int:
        return self.found - self.written


def prepare(
    corpus: Corpus,
    out: Path,
    codec: CodecFacts,
    frontend: Frontend,
    config: PrepareConfig,
    engine: Engine,
    dictionary: Path | None = None,
    textgrids: Path | None = None,
    progress: ProgressReport = lambda done, total, quarantined: None,
    part: Part | None = None,
) -> PrepareSummary | None:
    """Makes the data set `out`, or continues it; returns None when it is there already with the same settings.

    part: makes only the groups of this part, and no data set yet; that is for a call without it when all parts are there.
    dictionary: the frontend's dictionary file when it isn't the aligner's own. textgrids: the folder of alignments when
    the frontend's aligner is "textgrid". `progress` is called with utterances done, in all, and quarantined.
    Utterances that can't be used are listed in quarantine.jsonl with the reason.

    Raises InputError when `out` is something else or has other settings, when the corpus is empty or has no usable
    utterance; OSError when the disk is full: what is finished stays.
    """
    start = time.monotonic()
    out = out.absolute()  # workers of other machines have another working directory
    dictionary, textgrids = (path and path.absolute() for path in (dictionary, textgrids))
    alignment = AlignmentJob(
        frontend, dictionary, textgrids, codec.sample_rate, codec.hop, config.min_seconds, config.max_seconds
    )
    folder = TextGridFolder(textgrids) if textgrids is not None else None
    if (out / "dataset.json").exists():
        info = read_json(out / "dataset.json", "data set description")
        facts = list_corpus(corpus, None, config.group_size, config.limit, folder)
        check_same_settings(out, info.get("settings", {}), _settings(corpus, facts, codec, frontend, config))
        Dataset.open(out)
        shutil.rmtree(
            out / WORK_FOLDER, ignore_errors=True
        )  # of a run that was killed after its last file was in place
        return None
    work = WorkFolder(out) if part is None else PartFolder(out, part)
    try:
        facts = list_corpus(corpus, work.listing, config.group_size, config.limit, folder)
        settings = _settings(corpus, facts, codec, frontend, config)
        work.take(settings)
        sizes = dict(enumerate(Listing(listing_path(work.path)).sizes()))
        groups = len(sizes)
        if part is not None:
            sizes = {group: size for group, size in sizes.items() if part.has(group)}
        summary = PrepareSummary(found=sum(sizes.values()))
        # Workers of other machines have another working directory.
        a_path = codec.name not in NAMES and Path(codec.name).exists()
        spec = str(Path(codec.name).absolute()) if a_path else codec.name
        job = GroupJob(work.path, spec, codec.sha256, alignment)
        _make_chunks(job, sizes, work.finished(), engine, summary, progress)
        if part is not None:
            summary.faults = _faults_of(work.path, sizes)
            summary.written = summary.found - sum(summary.faults.values())
            summary.groups_left = groups - len(work.finished())
            summary.wall_seconds = time.monotonic() - start
            return summary
        totals = merge.write_quarantine(work, groups)
        _check_usable(totals, corpus)
        keys = [(split, shard) for split in facts.splits for shard in range(config.shards)]
        contents = engine.shards(work, groups, keys, config.shards)
        names = merge.describe(work, corpus, codec, frontend, settings, totals, keys, contents)
        work.publish(out, names)
    except OSError as error:
        # write() doesn't know the name of its file.
        raise error if error.filename else OSError(error.errno, error.strerror, str(out)) from None
    finally:
        work.close()
    summary.written, summary.faults = totals.written, dict(totals.faults)
    summary.wall_seconds = time.monotonic() - start
    return summary


def _settings(
    corpus: Corpus, facts: CorpusFacts, codec: CodecFacts, frontend: Frontend, config: PrepareConfig
) -> dict[str, Any]:
    """All that the data set is a function of, flat, as JSON holds it."""
    # The phones follow from the frontend's other fields; left out, a message about differences stays readable.
    fields = {name: value for name, value in dataclasses.asdict(frontend).items() if name != "phones"}
    settings = {
        "schema_version": SCHEMA_VERSION,
        "corpus": corpus.name,
        "utterances": facts.utterances,
        "utterances_sha256": facts.sha256,
        "codec": codec.name,
        "codec_sha256": codec.sha256,
        **dataclasses.asdict(config),
        **{f"frontend.{name}": value for name, value in fields.items()},
    }
    return json.loads(json.dumps(settings))


def _make_chunks(
    job: GroupJob,
    sizes: Mapping[int, int],
    finished: Collection[int],
    engine: Engine,
    summary: PrepareSummary,
    progress: ProgressReport,
) -> None:
    """Has the groups made, of those in `sizes`, that no earlier run finished."""
    done = summary.continued_from = sum(size for group, size in sizes.items() if group in finished)
    progress(done, summary.found, 0)
    quarantined = 0
    missing = [group for group in sizes if group not in finished]
    if not missing:
        return
    for facts in engine.groups(job, missing):
        done += facts.size
        quarantined += len(facts.rejected)
        summary.audio_seconds += facts.audio_seconds
        summary.align_seconds += facts.align_seconds
        summary.encode_seconds += facts.encode_seconds
        progress(done, summary.found, quarantined)


def _faults_of(work: Path, groups: Iterable[int]) -> dict[str, int]:
    """How often each fault is found in these groups."""
    facts = (read_chunk_facts(chunk_path(work, group)) for group in groups)
    return dict(collections.Counter(line["reason"] for one in facts for line in one.rejected).most_common())


def _check_usable(totals: Totals, corpus: Corpus) -> None:
    if not totals.written:
        reasons = ", ".join(f"{count} x {fault}" for fault, count in totals.faults.items())
        raise InputError(f"none of the {totals.found} utterances of {corpus.name} can be used: {reasons}")
