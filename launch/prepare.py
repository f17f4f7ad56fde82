"""`ellav prepare CORPUS OUT`: recordings and transcripts → a data set."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.corpora import open_corpus
from data_pipelines.prepare import PrepareConfig, PrepareSummary, prepare
from ellav_jax.codec import load_codec
from ellav_jax.frontend.frontend import default_frontend
from launch.progress import Progress


@dataclasses.dataclass(frozen=True)
class Silence:
    """Rules for SIL; they become part of the frontend (frontend.json)."""

    as_phone: bool = True
    """Whether silence is the phone SIL, so that pauses can be controlled, or part of its neighbours."""
    min_seconds: float = 0.1
    """A pause inside an utterance that is shorter joins the phone before it."""
    edge_seconds: float = 0.15
    """Recordings are trimmed to at most so much silence at each end."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Makes a data set of aligned phones and codec codes from recordings and transcripts.

    Utterances that can't be used go to OUT/quarantine.jsonl with the reason. Stopped at any moment, the same command
    continues where it was.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """What to read: `bundled` is the 24 minutes of speech that come with ellav."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder of the data set: new, or one to continue."""
    codec: str = "bundled"
    """Codec weights: `bundled`, a Hugging Face id or folder, FILE.safetensors, FILE.th, or `encodec` (the package)."""
    dictionary: Path | None = None
    """Pronouncing dictionary (MFA's format) in place of the aligner's own."""
    stress: bool = False
    """Keep the stress of vowels (AH0, AH1, AH2); needs a dictionary that has it."""
    silence: Silence = Silence()
    shards: int = PrepareConfig.shards
    """Files a split."""
    limit: int | None = PrepareConfig.limit
    """Only the first so many utterances of each split, for trials."""
    max_seconds: float = PrepareConfig.max_seconds
    """Longer recordings are set aside."""
    workers: int = os.cpu_count() or 1
    """Processes that align, beside the one that encodes. The result doesn't depend on it."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command. Raises InputError for bad input, OSError when the disk is full."""
    args = tyro.cli(Arguments, args=arguments, prog="ellav prepare")
    config = PrepareConfig(shards=args.shards, limit=args.limit, max_seconds=args.max_seconds)
    corpus = open_corpus(args.corpus)
    frontend = dataclasses.replace(
        default_frontend(args.dictionary, args.stress),
        silence_as_phone=args.silence.as_phone,
        silence_min_seconds=args.silence.min_seconds,
        edge_silence_seconds=args.silence.edge_seconds,
    )
    codec = load_codec(args.codec)
    with Progress(f"preparing {corpus.name}", "utterance") as progress:

        def report(done: int, total: int, quarantined: int) -> None:
            progress.update(done, total, f"({quarantined} quarantined)" if quarantined else "")

        summary = prepare(
            corpus, args.out, codec, frontend, config, workers=args.workers, dictionary=args.dictionary, progress=report
        )
    if summary is None:
        print(f"{args.out}: complete already, with these settings; nothing to do")
        return
    print(_report(summary, args.out))


def _report(summary: PrepareSummary, out: Path) -> str:
    lines = [f"{out}: found {summary.found} utterances = {summary.written} written + {summary.quarantined} quarantined"]
    if summary.continued_from:
        lines.append(f"  continued after {summary.continued_from} utterances of an earlier run")
    if summary.audio_seconds:
        lines.append(
            f"  {summary.audio_seconds:.0f} s of speech in {summary.wall_seconds:.1f} s: "
            f"{summary.audio_seconds / summary.wall_seconds:.1f} x real time"
        )
        lines.append(
            f"  aligning took {summary.align_seconds:.1f} s of processor time beside {summary.encode_seconds:.1f} s of "
            f"encoding ({summary.audio_seconds / summary.encode_seconds:.1f} x real time)"
        )
    if summary.quarantined:
        lines.append(f"  the reasons for the quarantine are in {out / 'quarantine.jsonl'}")
    lines.append(f"look at it with: ellav inspect {out}")
    return "\n".join(lines)
