"""`ellav prepare CORPUS OUT`: recordings and transcripts → a data set."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_pipelines.corpora import CorpusOptions, open_corpus
from data_pipelines.corpora.utterance import Corpus
from data_pipelines.group import use_one_thread
from data_pipelines.local_engine import LocalEngine
from data_pipelines.mfa_export import mfa_commands, write_mfa
from data_pipelines.part_folder import Part
from data_pipelines.prepare import Engine, PrepareConfig, PrepareSummary, prepare
from data_pipelines.records import Dataset
from ellav_jax.codec import load_codec_weights, load_device_codec
from ellav_jax.errors import FAULTS, InputError
from ellav_jax.frontend.frontend import Frontend, default_frontend
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
    continues where it was. Options of Apache Beam's runner stand last, behind `--`.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """What to read: `bundled` (the 24 minutes of speech that come with ellav), librispeech:DIR (LibriTTS too), ljspeech:DIR,
    folder:DIR (audio beside .txt or .lab, a folder a speaker), manifest:FILE.jsonl (own, NeMo's, Lhotse's cuts),
    tfds:NAME[/CONFIG], or flite:N (N made sentences in Flite's voices)."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder of the data set: new, or one to continue."""
    reading: Annotated[CorpusOptions, tyro.conf.arg(name="")] = CorpusOptions()
    codec: str = "bundled"
    """Codec weights: `bundled`, a Hugging Face id or folder, FILE.safetensors, FILE.th, or `encodec` (the package)."""
    aligner: str = "pocketsphinx"
    """`pocketsphinx` (English), or textgrid:DIR, the alignments that the Montreal Forced Aligner (MFA) wrote."""
    language: str = "en-us"
    """An espeak-ng voice: it pronounces words that the dictionary lacks."""
    dictionary: Path | None = None
    """Pronouncing dictionary (MFA's format) in place of the aligner's own."""
    write_mfa: Path | None = None
    """Prepare nothing: write the corpus folder and pronouncing dictionary for MFA here, and print MFA's commands."""
    stress: bool = False
    """Keep the stress of vowels (AH0, AH1, AH2); needs a dictionary that has it."""
    silence: Silence = Silence()
    shards: int = PrepareConfig.shards
    """Files a split."""
    limit: int | None = PrepareConfig.limit
    """Only the first so many utterances of each split, for trials."""
    min_seconds: float = PrepareConfig.min_seconds
    """Shorter recordings are set aside."""
    max_seconds: float = PrepareConfig.max_seconds
    """Longer recordings are set aside."""
    group_size: int = PrepareConfig.group_size
    """Utterances prepared and stored together: fewer lose less to an interruption, more keep an accelerator busier."""
    workers: int = os.cpu_count() or 1
    """Processes that align and, without an accelerator, encode, each on one core. The result doesn't depend on it."""
    engine: Literal["local", "beam"] = "local"
    """This machine, or any Apache Beam runner: ellav prepare … --engine beam -- --runner=FlinkRunner …"""
    part: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """Make only the I-th of N parts, here, while other machines with the same folder make the others: the same command
    for each, and without --part when all are done, which writes the data set."""
    strict: bool = False
    """Exit with status 2 when any utterance was quarantined; the data set is written all the same."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command. Raises InputError for bad input, OSError when the disk is full."""
    arguments, beam_options = _split_off_beam_options(list(arguments))
    args = tyro.cli(Arguments, args=arguments, prog="ellav prepare")
    if beam_options and args.engine != "beam":
        raise InputError(f"options behind -- ({' '.join(beam_options)}) are Beam's: they need --engine beam")
    config = PrepareConfig(
        shards=args.shards,
        limit=args.limit,
        min_seconds=args.min_seconds,
        max_seconds=args.max_seconds,
        group_size=args.group_size,
    )
    if re.match(r"\w{2,}:/", str(args.out)):
        raise InputError(f"{args.out}: data sets are written to folders; mount the bucket and give its path")
    part = _part(args)
    textgrids = _textgrid_folder(args.aligner)
    corpus = open_corpus(args.corpus, args.reading)
    if args.write_mfa is not None:
        _write_mfa(args, corpus, arguments)
        return
    frontend = _frontend(args, "pocketsphinx" if textgrids is None else "textgrid")
    summary = _prepare(args, config, corpus, frontend, textgrids, part, beam_options)
    if summary is None:
        print(f"{args.out}: complete already, with these settings; nothing to do")
    else:
        print(_report(summary, args.out, part))
    if args.strict:
        _check_none_quarantined(args.out)


def _prepare(
    args: Arguments,
    config: PrepareConfig,
    corpus: Corpus,
    frontend: Frontend,
    textgrids: Path | None,
    part: Part | None,
    beam_options: Sequence[str],
) -> PrepareSummary | None:
    if args.engine == "beam":
        from data_pipelines.beam_engine import BeamEngine

        use_one_thread()  # some of Beam's runners encode in this process
        engine: Engine = BeamEngine(beam_options)
    else:
        engine = LocalEngine(args.workers, load_device_codec(args.codec))
    with Progress(f"preparing {corpus.name}", "utterance") as progress:

        def report(done: int, total: int, quarantined: int) -> None:
            progress.update(done, total, f"({quarantined} quarantined)" if quarantined else "")

        return prepare(
            corpus,
            args.out,
            load_codec_weights(args.codec).facts,
            frontend,
            config,
            engine,
            dictionary=args.dictionary,
            textgrids=textgrids,
            progress=report,
            part=part,
        )


def _part(args: Arguments) -> Part | None:
    if args.part is None:
        return None
    if args.engine != "local" or args.write_mfa is not None:
        raise InputError(f"--part {args.part}: neither Beam nor --write-mfa works in parts; leave one of the two out")
    if args.strict:
        raise InputError("--strict judges the whole data set: give it to the command without --part")
    return Part.from_text(args.part)


def _write_mfa(args: Arguments, corpus: Corpus, arguments: Sequence[str]) -> None:
    with Progress(f"writing {args.write_mfa}", "utterance") as progress:

        def report(done: int, skipped: int) -> None:
            progress.update(done, None, f"({skipped} left out)" if skipped else "")

        summary = write_mfa(
            corpus, args.write_mfa, args.language, args.stress, args.limit, args.max_seconds, progress=report
        )
    left_out = summary.found - summary.written
    counts = f"{summary.found} utterances = {summary.written} written + {left_out} left out"
    print(f"{args.write_mfa}: {counts}, {summary.words} words")
    print(_faults(summary.faults), end="")
    kept = _without(arguments, "--write-mfa", "--aligner", "--dictionary", "--language")
    print(mfa_commands(args.write_mfa, [one for one in kept if one != "--stress"], args.language, args.stress))


def _without(arguments: Sequence[str], *flags: str) -> list[str]:
    """The arguments, less these flags and their values; tyro takes "_" for "-" in a flag, and `--flag=value`."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.partition("=")
        if flag.replace("_", "-") not in flags:
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept


def _split_off_beam_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _textgrid_folder(aligner: str) -> Path | None:
    kind, _, folder = aligner.partition(":")
    if kind == "textgrid" and folder:
        return Path(folder)
    if aligner != "pocketsphinx":
        raise InputError(f"--aligner {aligner}: expected pocketsphinx or textgrid:DIR")
    return None


def _frontend(args: Arguments, aligner: str) -> Frontend:
    return dataclasses.replace(
        default_frontend(args.dictionary, args.stress, aligner=aligner, language=args.language),
        silence_as_phone=args.silence.as_phone,
        silence_min_seconds=args.silence.min_seconds,
        edge_silence_seconds=args.silence.edge_seconds,
    )


def _report(summary: PrepareSummary, out: Path, part: Part | None) -> str:
    which, written = ("", "written") if part is None else (f"part {part} is done: ", "usable")
    counts = f"{summary.found} utterances = {summary.written} {written} + {summary.quarantined} quarantined"
    lines = [f"{out}: {which}found {counts}"]
    lines += _faults(summary.faults).splitlines()
    if summary.continued_from:
        lines.append(f"  continued after {summary.continued_from} utterances of an earlier run")
    if summary.audio_seconds:
        lines.append(
            f"  {summary.audio_seconds:.0f} s of speech in {summary.wall_seconds:.1f} s: "
            f"{summary.audio_seconds / summary.wall_seconds:.1f} x real time"
        )
        lines.append(
            f"  of the workers' time, {summary.align_seconds:.1f} s went into reading and aligning, "
            f"{summary.encode_seconds:.1f} s into encoding"
        )
    if part is not None:
        left = (
            f"{summary.groups_left} groups of other parts are not there yet" if summary.groups_left else "all are there"
        )
        return "\n".join([*lines, f"{left}; behind all parts, the same command without --part writes the data set"])
    if summary.quarantined:
        lines.append(f"  what is quarantined, and why: {out / 'quarantine.jsonl'}")
    lines.append(f"look at it with: ellav inspect {out}")
    return "\n".join(lines)


def _faults(faults: Mapping[str, int]) -> str:
    return "".join(f"  {count:7d} x {fault}: {FAULTS[fault]}\n" for fault, count in faults.items())


def _check_none_quarantined(out: Path) -> None:
    counts = Dataset.open(out).info["utterances"]
    if counts["quarantined"]:
        reasons = ", ".join(f"{count} x {fault}" for fault, count in counts["reasons"].items())
        raise InputError(
            f"{out}: the data set is written, and {counts['quarantined']} utterances are quarantined ({reasons}), which "
            f"--strict forbids; see {out / 'quarantine.jsonl'}"
        )
