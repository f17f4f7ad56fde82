"""`ellav export`: checkpoints and codec → a folder for PyTorch."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from tyro.conf import Positional, arg

from configs.trained import TrainedCard, check_codec, check_together, load_trained, read_trained
from data_pipelines.records import Dataset
from ellav_jax.codec import load_codec_weights
from ellav_jax.codec.weights import CodecWeights
from ellav_jax.errors import InputError
from ellav_jax.export.card import codec_card, llama_card, model_card, root_card
from ellav_jax.export.folder import ExportedModel, new_export, total_bytes, write_codec, write_model, write_root
from ellav_jax.export.hub import push
from ellav_jax.export.hugging_face import check_llama, write_llama
from ellav_jax.files import read_json
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.training.checkpoint import has_average, read_card
from launch.assemble import held_out_split
from launch.cli import version

UTTERANCES = 4
"""That --verify takes."""
LONGEST = 6 * 75
"""Frames of an utterance of --data that --verify takes."""


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Writes models for PyTorch: OUT/gar, OUT/nar and OUT/codec, whichever are given.

    Each has model.safetensors, config.json, frontend.json, a model card and modeling_ellav.py, which needs torch and
    safetensors alone: docs/export.md.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """Folder to write: new, empty, or an export."""
    gar: Annotated[Path | None, arg(metavar="W")] = None
    """Work directory (its latest checkpoint) or one checkpoint of a GAR or of VALL-E's AR."""
    nar: Annotated[Path | None, arg(metavar="W")] = None
    """The same of a NAR."""
    codec: Annotated[str | None, arg(metavar="SPEC")] = None
    """The codec, as for `ellav prepare`; it must be the one that the models' data was made with."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the weights of GAR and NAR."""
    weights: Literal["auto", "ema", "last"] = "auto"
    """ema: the moving average over the run; last: the weights as they stood; auto: the average where it was kept."""
    overwrite: bool = False
    """Replace an export that is there."""
    verify: bool = False
    """Compare the export with JAX: logits, greedy codes, waveforms. Needs torch."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Data set whose held-out utterances --verify takes; without it they are drawn at random."""
    llama: bool = False
    """Also OUT/llama: the GAR as a LlamaForCausalLM for transformers (preset llama)."""
    push: Annotated[str | None, arg(metavar="OWNER/NAME")] = None
    """Upload OUT to this repository of the Hugging Face Hub."""
    private: bool = False
    """Make the repository of --push a private one, if it is new."""


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav export`. Raises InputError for bad input, RunError when --verify finds the export to differ."""
    args = tyro.cli(ExportArguments, args=list(arguments), prog="ellav export")
    _check(args)
    cards = {kind: read_trained(path, kind) for kind in ("gar", "nar") if (path := getattr(args, kind)) is not None}
    if len(cards) == 2:
        check_together(cards["gar"], cards["nar"])
    if args.llama:
        check_llama(cards["gar"].experiment.model.transformer)
    codec = None if args.codec is None else load_codec_weights(args.codec)
    for card in cards.values() if codec is not None else ():
        check_codec(card, codec.name, codec.sha256)
    utterances = None if args.data is None else _held_out(args.data, list(cards.values()))
    models = _write(args, list(cards.values()), codec)
    print(f"{args.out}: {total_bytes(args.out) / 1e6:.1f} MB in all", flush=True)
    if args.verify:
        _verify(args, models, codec, utterances)
    if args.push is not None:
        print(push(args.out, args.push, args.private))


def _check(args: ExportArguments) -> None:
    """What can be told from the arguments alone. Raises InputError."""
    if args.gar is None and args.nar is None and args.codec is None:
        raise InputError("nothing to export; give --gar W, --nar W, --codec SPEC, or some of them")
    if args.llama and args.gar is None:
        raise InputError("--llama writes a GAR; give --gar W")
    if args.data is not None and not args.verify:
        raise InputError("--data is for --verify alone; give both, or neither")
    if args.private and args.push is None:
        raise InputError("--private is for --push alone; give both, or neither")


def _write(args: ExportArguments, cards: Sequence[TrainedCard], codec: CodecWeights | None) -> list[ExportedModel]:
    """→ the models; their weights stay only where they are verified."""
    models = []
    with new_export(args.out, overwrite=args.overwrite) as folder:
        for card in cards:
            model = _load(card, args.weights)
            write_model(folder / model.kind, model, args.dtype, model_card(model, args.dtype))
            if args.llama and model.kind == "gar":
                parts = (model.params, model.config, model.layout, model.frontend)
                write_llama(*parts, folder / "llama", args.dtype, llama_card(model, args.dtype))
            print(f"{args.out / model.kind}: {_describe(model)}, {args.dtype}, of {card.path}", flush=True)
            models.append(model if args.verify else dataclasses.replace(model, params={}))
        if codec is not None:
            write_codec(folder / "codec", codec, codec_card(codec.name, codec.sha256))
            print(f"{args.out / 'codec'}: {codec.name}", flush=True)
        write_root(folder, root_card(models, codec and codec.name, args.dtype))
    return models


def _load(card: TrainedCard, weights: Literal["auto", "ema", "last"]) -> ExportedModel:
    averaged = has_average(card.path)
    if weights == "ema" and not averaged:
        raise InputError(
            f"{card.path}: keeps no moving average (train.optimizer.ema-decay); export it with --weights last"
        )
    use_average = averaged and weights != "last"
    trained = load_trained(card.path, card.experiment.kind, average=use_average)
    return ExportedModel(
        trained.model.params,
        trained.experiment.model,
        trained.experiment.layout,
        trained.frontend,
        trained.codec,
        trained.experiment.to_json(),
        _provenance(card.path) | {"weights": "ema" if use_average else "last"},
    )


def _provenance(checkpoint: Path) -> dict[str, Any]:
    """What is known of a checkpoint: its step, and of its run, where it lies in the work directory, data and last start."""
    known: dict[str, Any] = {"exported_with": version()}
    if checkpoint.name.isdigit():
        known["step"] = int(checkpoint.name)
    workdir = checkpoint.absolute().parent.parent
    if (workdir / "experiment.json").is_file():
        known["data"] = read_json(workdir / "experiment.json", "description of a run").get("data", [])
    if (workdir / "starts.jsonl").is_file():
        start = json.loads((workdir / "starts.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        known["start"] = {name: start[name] for name in ("hardware", "revision", "versions") if name in start}
        # Runs of older versions did not record the terms of their data.
        for one, corpus in zip(known.get("data", []), start.get("corpora", []), strict=False):
            one |= {name: corpus[name] for name in ("licence", "attribution")}
    if imported := read_card(checkpoint).get("provenance"):
        known["imported"] = imported
    return known


def _describe(model: ExportedModel) -> str:
    import jax

    count = sum(np.size(leaf) for leaf in jax.tree.leaves(model.params))
    return f"{count / 1e6:.1f} M parameters ({'moving average' if model.provenance['weights'] == 'ema' else 'last weights'})"


def _held_out(path: Path, cards: Sequence[TrainedCard]) -> list[Prompt]:
    """Utterances of a data set's held-out split, evenly out of those that aren't too long. Raises InputError."""
    dataset = Dataset.open(path)
    for card in cards:
        card.frontend.check_same(dataset.frontend, f"--data {path}, beside {card.path},")
    split = held_out_split(dataset) or "train"
    source = dataset.records(split)
    _, frames_N = dataset.lengths(split)
    short = np.flatnonzero(frames_N <= LONGEST).tolist()
    if len(short) < 2:
        raise InputError(
            f"{path}, {split}: expected at least 2 utterances of at most {LONGEST} frames, found {len(short)}"
        )
    chosen = [source[index] for index in short[:: max(len(short) // UTTERANCES, 1)][:UTTERANCES]]
    return [Prompt(one.phones_N.astype(np.int32), one.durations_N, one.codes_Tx8.astype(np.int32)) for one in chosen]


def _verify(
    args: ExportArguments,
    models: Sequence[ExportedModel],
    codec: CodecWeights | None,
    utterances: Sequence[Prompt] | None,
) -> None:
    from ellav_jax.export.verify import check, random_utterances, verify

    if utterances is None:
        phones = len(models[0].frontend.phones) if models else 1
        utterances = random_utterances(phones, UTTERANCES)
    frames = sum(len(one.codes_Tx8) for one in utterances)
    where = args.data or "random"
    print(f"verifying with {len(utterances)} utterances ({where}) of {frames} frames, in float32", flush=True)
    found = verify(args.out, models, codec, args.dtype, utterances)
    for one in found:
        print(f"  {one.what}: largest difference {one.largest:.2g} ({one.where})", flush=True)
    check(found)
    worst = max(found, key=lambda one: one.largest)
    print(f"verified: the largest difference is {worst.largest:.2g}, in {worst.what} ({worst.where})")
