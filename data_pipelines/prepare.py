"""Recordings and transcripts → a data set: align, trim, encode, write shards.

The result is a function of the corpus, the codec and the frontend alone: not of the number of workers, nor of how often
the work was interrupted. What is finished is kept chunk by chunk (work_folder.py), so a second run continues the first.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.alignment_pool import AlignedUtterance, AlignmentJob, AlignmentPool, RejectedUtterance
from data_pipelines.corpora.utterance import Corpus, Utterance
from data_pipelines.records import FORMAT, SCHEMA_VERSION, Dataset, Record, ShardWriter
from data_pipelines.work_folder import WorkFolder, check_same_settings
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_bytes, write_json
from ellav_jax.frontend.frontend import Frontend

if TYPE_CHECKING:
    from ellav_jax.codec.codec import Codec
    from ellav_jax.codec.package_backend import PackageCodec

# Utterances encoded and stored together. At least so many, and so many times the longest, that the codec, which encodes
# 8 clips side by side, isn't left with one long clip; at most so many that an interruption costs little.
MIN_CHUNK, MAX_CHUNK, SIDE_BY_SIDE = 64, 512, 8

ProgressReport = Callable[[int, int, int], None]


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Choices that the data set depends on.

    shards: files a split. limit: only the first so many utterances of each split, for trials. max_seconds: longer
    recordings are set aside; the default admits the longest of the bundled clips (73 s).
    """

    shards: int = 8
    limit: int | None = None
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Raises InputError for values below 1 (seconds: 0 or less)."""
        if self.shards < 1 or (self.limit is not None and self.limit < 1) or self.max_seconds <= 0:
            raise InputError(f"{self}: shards and limit must be at least 1, max_seconds above 0")


@dataclasses.dataclass
class PrepareSummary:
    """Counts of the whole data set, and the times of this run (s; alignment: processor time of all workers)."""

    found: int
    written: int = 0
    quarantined: int = 0
    continued_from: int = 0
    audio_seconds: float = 0.0
    align_seconds: float = 0.0
    encode_seconds: float = 0.0
    wall_seconds: float = 0.0


def prepare(
    corpus: Corpus,
    out: Path,
    codec: "Codec | PackageCodec",
    frontend: Frontend,
    config: PrepareConfig,
    workers: int,
    dictionary: Path | None = None,
    progress: ProgressReport = lambda done, total, quarantined: None,
) -> PrepareSummary | None:
    """Makes the data set `out`, or continues it; returns None when it is there already with the same settings.

    dictionary: the frontend's dictionary file when it isn't the aligner's own. `progress` is called with utterances
    done, in all, and quarantined. Utterances that can't be used are listed in quarantine.jsonl with the reason.

    Raises InputError when `out` is something else or has other settings, when the corpus is empty, has an id twice, or
    has no usable utterance; OSError when the disk is full: what is finished stays.
    """
    start = time.monotonic()
    if workers < 1:
        raise InputError(f"{workers} workers; expected at least 1")
    utterances = _select(corpus, config.limit)
    settings = _settings(corpus, utterances, codec, frontend, config)
    if (out / "dataset.json").exists():
        info = read_json(out / "dataset.json", "data set description")
        check_same_settings(out, info.get("settings", {}), settings)
        Dataset.open(out)
        return None
    work = WorkFolder(out, settings)
    try:
        summary = PrepareSummary(found=len(utterances))
        job = AlignmentJob(frontend, dictionary, codec.sample_rate, codec.hop, config.max_seconds)
        _process(work, utterances, codec, job, workers, summary, progress)
        _finish(work, out, corpus, utterances, codec, frontend, config, settings, summary)
    except OSError as error:
        # write() doesn't know the name of its file.
        raise error if error.filename else OSError(error.errno, error.strerror, str(out)) from None
    finally:
        work.close()
    summary.wall_seconds = time.monotonic() - start
    return summary


def _select(corpus: Corpus, limit: int | None) -> list[Utterance]:
    seen: dict[str, Utterance] = {}
    taken: dict[str, int] = {}
    for utterance in corpus.utterances:
        if utterance.id in seen:
            raise InputError(
                f"corpus {corpus.name}: two utterances have the id {utterance.id!r} ({seen[utterance.id].audio}, "
                f"{utterance.audio}); ids must be unique"
            )
        if not re.fullmatch(r"[\w.-]+", utterance.split):
            raise InputError(f"corpus {corpus.name}: split {utterance.split!r} of {utterance.id} can't name a file")
        taken[utterance.split] = taken.get(utterance.split, 0) + 1
        if limit is None or taken[utterance.split] <= limit:
            seen[utterance.id] = utterance
    if not seen:
        raise InputError(f"corpus {corpus.name}: no utterances; expected at least one")
    return list(seen.values())


def _settings(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    codec: "Codec | PackageCodec",
    frontend: Frontend,
    config: PrepareConfig,
) -> dict[str, Any]:
    """All that the data set is a function of, flat, as JSON holds it."""
    digest = hashlib.sha256()
    for one in utterances:
        size = one.audio.stat().st_size if one.audio.is_file() else None
        digest.update(json.dumps([one.id, one.text, one.speaker, one.split, size]).encode())
    # The phones follow from the frontend's other fields; left out, a message about differences stays readable.
    fields = {name: value for name, value in dataclasses.asdict(frontend).items() if name != "phones"}
    settings = {
        "schema_version": SCHEMA_VERSION,
        "corpus": corpus.name,
        "utterances": len(utterances),
        "utterances_sha256": digest.hexdigest(),
        "codec": codec.name,
        "codec_sha256": codec.sha256,
        **dataclasses.asdict(config),
        **{f"frontend.{name}": value for name, value in fields.items()},
    }
    return json.loads(json.dumps(settings))


def _process(
    work: WorkFolder,
    utterances: Sequence[Utterance],
    codec: "Codec | PackageCodec",
    job: AlignmentJob,
    workers: int,
    summary: PrepareSummary,
    progress: ProgressReport,
) -> None:
    """Aligns and encodes the utterances that no earlier run finished."""
    summary.continued_from = work.done
    progress(work.done, summary.found, 0)
    if work.done == summary.found:
        return
    pool = AlignmentPool(job, workers)
    quarantined = 0
    try:
        for aligned, rejected in _chunks(pool.align(utterances[work.done :])):
            start = time.monotonic()
            codes = codec.encode_batch([one.wave_S for one in aligned]) if aligned else []
            summary.encode_seconds += time.monotonic() - start
            summary.align_seconds += sum(one.seconds for one in aligned)
            summary.audio_seconds += sum(len(one.wave_S) for one in aligned) / codec.sample_rate
            records = [_record(*pair) for pair in zip(aligned, codes, strict=True)]
            work.write_chunk(records, [_quarantine_line(one) for one in rejected])
            quarantined += len(rejected)
            progress(work.done, summary.found, quarantined)
    finally:
        pool.close()


def _chunks(
    results: Iterable[AlignedUtterance | RejectedUtterance],
) -> Iterator[tuple[list[AlignedUtterance], list[RejectedUtterance]]]:
    aligned: list[AlignedUtterance] = []
    rejected: list[RejectedUtterance] = []
    for result in results:
        (aligned if isinstance(result, AlignedUtterance) else rejected).append(result)
        size, lengths = len(aligned) + len(rejected), [len(one.wave_S) for one in aligned]
        full = size >= MIN_CHUNK and sum(lengths) >= SIDE_BY_SIDE * max(lengths, default=0)
        if full or size == MAX_CHUNK:
            yield aligned, rejected
            aligned, rejected = [], []
    if aligned or rejected:
        yield aligned, rejected


def _record(aligned: AlignedUtterance, codes_Tx8: np.ndarray) -> Record:
    utterance = aligned.utterance
    return Record(
        id=utterance.id,
        text=utterance.text,
        speaker=utterance.speaker,
        phones_N=aligned.phones_N,
        durations_N=aligned.durations_N,
        codes_Tx8=codes_Tx8.astype(np.uint16),
    )


def _quarantine_line(rejected: RejectedUtterance) -> dict[str, str]:
    utterance = rejected.utterance
    return {
        "id": utterance.id,
        "split": utterance.split,
        "source": str(utterance.audio),
        "text": utterance.text,
        "reason": rejected.reason,
    }


def _finish(
    work: WorkFolder,
    out: Path,
    corpus: Corpus,
    utterances: Sequence[Utterance],
    codec: "Codec | PackageCodec",
    frontend: Frontend,
    config: PrepareConfig,
    settings: dict[str, Any],
    summary: PrepareSummary,
) -> None:
    """Chunks → shards, lengths, quarantine, descriptions; dataset.json comes last: it marks the data set as whole."""
    split_of = {utterance.id: utterance.split for utterance in utterances}
    writers: dict[str, ShardWriter] = {}
    speakers: dict[str, set[str]] = {}
    rejected: list[dict[str, str]] = []
    for records, chunk_rejected in work.chunks():
        rejected += chunk_rejected
        for record in records:
            split = split_of[record.id]
            if split not in writers:
                writers[split], speakers[split] = ShardWriter(work.path, split, config.shards), set()
            writers[split].write(record)
            speakers[split].add(record.speaker)
    if not writers:
        reason = rejected[0]["reason"]
        raise InputError(f"none of the {len(rejected)} utterances of {corpus.name} can be used; the first: {reason}")
    summary.quarantined, summary.written = len(rejected), summary.found - len(rejected)

    splits, lengths = {}, {}
    for split, writer in writers.items():
        shards = writer.close()
        frames, phones = int(writer.lengths["frames"].sum()), int(writer.lengths["phones"].sum())
        splits[split] = {
            "utterances": len(writer.lengths["ids"]),
            "speakers": len(speakers[split]),
            "hours": frames / codec.frame_rate / 3600,
            "frames": frames,
            "phones": phones,
            "shards": shards,
        }
        lengths |= {f"{split}/{name}": values for name, values in writer.lengths.items()}
    description = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "corpus": {"name": corpus.name, "licence": corpus.licence, "attribution": corpus.attribution},
        "codec": {
            "name": codec.name,
            "sha256": codec.sha256,
            "sample_rate": codec.sample_rate,
            "hop": codec.hop,
            "frame_rate": codec.frame_rate,
            "num_codebooks": codec.num_codebooks,
            "codebook_size": codec.codebook_size,
        },
        "aligner": frontend.aligner,
        "phones": list(frontend.phones),
        "utterances": {"found": summary.found, "written": summary.written, "quarantined": summary.quarantined},
        "splits": splits,
        "settings": settings,
    }
    with open(work.path / "lengths.npz", "wb") as file:
        np.savez(file, **lengths)
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in rejected]
    write_bytes(work.path / "quarantine.jsonl", "".join(lines).encode())
    frontend.to_json(work.path / "frontend.json")
    write_json(work.path / "dataset.json", description)
    shard_names = [shard["file"] for split in splits.values() for shard in split["shards"]]
    work.publish(out, [*shard_names, "lengths.npz", "quarantine.jsonl", "frontend.json", "dataset.json"])
