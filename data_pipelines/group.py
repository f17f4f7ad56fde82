"""A group of utterances → its chunk: the one unit of work, whatever engine runs it and however often.

Alignment is C code on one thread. Encoding is XLA, whose sums on a CPU depend on its number of threads: so each process
that encodes on a CPU has one (`use_one_thread`), and the work spreads over processes.
"""

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.align import AlignedUtterance, AlignmentJob, RejectedUtterance, align_utterance
from data_pipelines.corpora.utterance import Utterance
from data_pipelines.listing import Listing
from data_pipelines.records import Record
from data_pipelines.work_folder import ChunkFacts, chunk_path, listing_path, read_chunk_facts, write_chunk
from ellav_jax.errors import InputError

if TYPE_CHECKING:
    from ellav_jax.codec.codec import Codec
    from ellav_jax.codec.package_backend import PackageCodec


@dataclasses.dataclass(frozen=True)
class GroupJob:
    """What is the same for every group. work: the work folder. codec: as `load_codec` takes it, and its file's hash."""

    work: Path
    codec: str
    codec_sha256: str
    alignment: AlignmentJob


def make_chunk(job: GroupJob, group: int, crashing: Collection[str] = ()) -> ChunkFacts:
    """Aligns, encodes and stores group `group` of the listing, unless it is there already; returns its facts.

    crashing: ids of utterances that the aligner is known to crash on. Raises OSError when the disk is full, InputError
    when aligner or codec can't work.
    """
    path = chunk_path(job.work, group)
    if path.exists():
        return read_chunk_facts(path)
    aligned, rejected = align_group(job, group, crashing)
    return store_group(job, group, aligned, rejected, load_codec_once(job.codec, job.codec_sha256))


def align_group(
    job: GroupJob, group: int, crashing: Collection[str] = ()
) -> tuple[list[AlignedUtterance], list[RejectedUtterance]]:
    """The first half of `make_chunk`: needs neither codec nor device."""
    aligned, rejected = [], []
    for utterance in Listing(listing_path(job.work))[group]:
        if utterance.id in crashing:
            result = RejectedUtterance(utterance, "aligner-crash", f"{utterance.audio.name}: the aligner crashes on it")
        else:
            result = align_utterance(utterance, job.alignment)
        (aligned if isinstance(result, AlignedUtterance) else rejected).append(result)
    return aligned, rejected


def store_group(
    job: GroupJob,
    group: int,
    aligned: Sequence[AlignedUtterance],
    rejected: Sequence[RejectedUtterance],
    codec: "Codec | PackageCodec",
) -> ChunkFacts:
    """The second half of `make_chunk`: encodes, and stores the chunk."""
    start = time.monotonic()
    codes = codec.encode_batch([one.wave_S for one in aligned]) if aligned else []
    facts = ChunkFacts(
        size=len(aligned) + len(rejected),
        rejected=[_quarantine_line(one) for one in rejected],
        audio_seconds=sum(len(one.wave_S) for one in aligned) / codec.sample_rate,
        align_seconds=sum(one.seconds for one in aligned),
        encode_seconds=time.monotonic() - start,
    )
    records = [(one.utterance.split, _record(one, codes_Tx8)) for one, codes_Tx8 in zip(aligned, codes, strict=True)]
    write_chunk(chunk_path(job.work, group), records, facts)
    return facts


@functools.cache
def load_codec_once(spec: str, sha256: str) -> "Codec | PackageCodec":
    """The codec, once a process, on one thread where it runs on a CPU.

    Raises InputError as `load_codec`, and when its file isn't the one whose hash is asked for.
    """
    use_one_thread()
    from ellav_jax.codec import load_codec

    codec = load_codec(spec)
    if codec.sha256 != sha256:
        raise InputError(
            f"codec {spec}: sha256 {codec.sha256} here, expected {sha256}; the same file must be there for every worker"
        )
    return codec


def use_one_thread() -> None:
    """Makes XLA's (and torch's) CPU backend use one thread in this process, so that codes don't depend on its cores.

    Raises RuntimeError when jax is there already, with another number perhaps: its threads can't be changed any more.
    """
    if os.environ.get("NPROC") != "1" and "jax" in sys.modules:
        raise RuntimeError("jax was imported before use_one_thread(); encode in a process of its own")
    # XLA reads it when it makes its CPU client (xla/pjrt/utils.cc, DefaultThreadPoolSize).
    os.environ["NPROC"] = os.environ["OMP_NUM_THREADS"] = "1"


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


def _quarantine_line(rejected: RejectedUtterance) -> dict[str, Any]:
    utterance: Utterance = rejected.utterance
    return {
        "id": utterance.id,
        "split": utterance.split,
        "source": utterance.audio.name,
        "text": utterance.text,
        "reason": rejected.fault,
        "detail": rejected.detail,
    }
