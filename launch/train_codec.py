"""`ellav train-codec`: recordings → weights of an EnCodec, which `--codec` of the other commands takes."""

import dataclasses
import datetime as dt
import importlib.util
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from ellav_jax.codec import load_codec_weights
from ellav_jax.codec.training.config import CodecTrainingConfig
from ellav_jax.codec.weights import CodecWeights
from ellav_jax.errors import InputError
from ellav_jax.files import take_lock
from launch.codec_recordings import Recordings, list_recordings, open_recordings, read_24_khz


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains an EnCodec further on recordings: first to rebuild them, then against a discriminator as well.

    The same command continues an interrupted run. DIR/codec.safetensors, renewed at each checkpoint, is what --codec of
    the other commands takes; DIR/log.jsonl holds the losses, DIR/starts.jsonl what the run was given at each start.
    """

    audio: Annotated[Positional[tuple[str, ...]], arg(metavar="AUDIO[:WEIGHT]")]
    """Folders of recordings. WEIGHT: how much is drawn from each, in proportion; all have one, or none, and then it is
    their length."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Made if it is not there, continued if it is."""
    start: str = "bundled"
    """Codec that a fresh run begins with, as --codec of the other commands."""
    held_out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of recordings whose resynthesis is measured at each checkpoint; they must not be among AUDIO."""
    steps: int = 20_000
    """Steps of the whole run, those before an interruption counted."""
    threads: int = 1
    """CPU threads. With one, an interrupted run ends in the same bits as one that was not."""
    training: Annotated[CodecTrainingConfig, arg(name="")] = CodecTrainingConfig()


def main(arguments: Sequence[str]) -> None:
    """Runs the command. Raises InputError for bad input, RunError when a loss is no number any more."""
    args = tyro.cli(Arguments, args=list(arguments), prog="ellav train-codec")
    if not args.audio:
        raise InputError(
            "ellav train-codec: no recordings; give folders that hold them: ellav train-codec AUDIO --out DIR"
        )
    if importlib.util.find_spec("torch") is None:
        raise InputError("ellav train-codec needs torch: pip install 'ellav-jax[torch]'")
    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out}: a file is in the way; --out wants a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    taken = f"{args.out}: another process trains in it; wait for it, or choose another --out"
    with take_lock(args.out / "lock", taken):
        sources = [open_recordings(one, args.out) for one in args.audio]
        weighted = [source for source in sources if source.weight is not None]
        if weighted and len(weighted) < len(sources):
            raise InputError(f"{' '.join(args.audio)}: give all of them a weight, as in DIR:0.5, or none")
        for source in sources:
            _tell(source)
        _train(args, sources)


def _train(args: Arguments, sources: list[Recordings]) -> None:
    # torch and jax take seconds to import: not before the arguments are known to be good.
    import torch

    from ellav_jax.codec.training.clips import Segments
    from ellav_jax.codec.training.trainer import WEIGHTS, CodecTrainer
    from ellav_jax.training.stopping import stop_after_step

    torch.set_num_threads(args.threads)
    shares = [source.weight or source.minutes for source in sources]
    segments = Segments(args.training.segments, [source.samples for source in sources], shares, args.training.seed)
    held_out = [] if args.held_out is None else [read_24_khz(path) for path in list_recordings(args.held_out)]

    def start() -> CodecWeights:
        return load_codec_weights(args.start)

    def report(fields: dict[str, float]) -> None:
        _append(args.out / "log.jsonl", fields)
        print("  ".join(f"{name} {value:g}" for name, value in fields.items()), flush=True)

    trainer = CodecTrainer(args.training, segments, args.out, start, held_out, report)
    _record_start(args, sources, trainer.step)
    with stop_after_step() as stopping:
        trainer.run(args.steps, lambda: stopping(trainer.step))
    rest = "" if trainer.step >= args.steps else f" of {args.steps}: the same command continues"
    print(f"{args.out / WEIGHTS}: the averaged weights after {trainer.step} steps{rest}")


def _tell(source: Recordings) -> None:
    for line in source.unusable:
        print(f"left out: {line}")
    print(f"{source.folder}: {source.count} recordings, {source.minutes:.1f} minutes", flush=True)


def _record_start(args: Arguments, sources: list[Recordings], step: int) -> None:
    """What a model card has to say of a run, at each of its starts."""
    given = [
        {"folder": str(s.folder), "recordings": s.count, "minutes": round(s.minutes, 1), "weight": s.weight}
        for s in sources
    ]
    start = {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "step": step,
        "begun_with": args.start,
        "sources": given,
        "training": dataclasses.asdict(args.training),
        "torch": metadata.version("torch"),
    }
    _append(args.out / "starts.jsonl", start)


def _append(path: Path, fields: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")
