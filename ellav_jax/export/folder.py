"""The folder that `ellav export` writes: OUT/gar, OUT/nar and OUT/codec, each usable alone; whole or not there."""

import contextlib
import dataclasses
import filecmp
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ellav_jax.codec.weights import CodecWeights
from ellav_jax.errors import InputError
from ellav_jax.export.convert import flatten, sources, torch_config
from ellav_jax.export.modeling_file import NAME as MODELING
from ellav_jax.export.modeling_file import modeling_source
from ellav_jax.export.safetensors_file import write_weights
from ellav_jax.files import read_json, write_bytes, write_json
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.nar import NarConfig

FORMAT = "ellav-torch"
FORMAT_VERSION = 1
WEIGHTS, CONFIG, FRONTEND, CARD = "model.safetensors", "config.json", "frontend.json", "README.md"
PARTS = ("gar", "nar", "codec", "llama")
"""Folders that an export may hold."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedModel:
    """A GAR or NAR on its way out. params: nested dict of float32 arrays. codec: name and sha256 of its data's.

    experiment, provenance: JSON that goes into config.json; the first is what `ellav import` builds the model from.
    """

    params: Mapping[str, Any]
    config: GarConfig | NarConfig
    layout: LayoutConfig
    frontend: Frontend
    codec: dict[str, str]
    experiment: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def kind(self) -> Literal["gar", "nar"]:
        """Which of the two."""
        return "gar" if isinstance(self.config, GarConfig) else "nar"


def shape_fields(config: GarConfig | NarConfig, layout: LayoutConfig) -> dict[str, Any]:
    """The fields of config.json that the PyTorch model is built from."""
    fields = {"transformer": torch_config(config.transformer), "layout": dataclasses.asdict(layout)}
    if isinstance(config, NarConfig):
        fields["nar"] = {"aligned_phones": config.aligned_phones, "tied_heads": config.tied_heads}
    return fields


def write_model(folder: Path, model: ExportedModel, dtype: str, card: str) -> None:
    """Writes a model's folder, which must not be there. card: its README.md.

    Raises InputError where dtype can't hold a weight.
    """
    folder.mkdir()
    flat, table = flatten(model.params), sources(model.params)
    shapes = {name: source.shape for name, source in table.items()}
    write_weights(folder / WEIGHTS, shapes, lambda name: table[name].read(flat), dtype)
    fields = shape_fields(model.config, model.layout)
    facts = {"codec": model.codec, "experiment": model.experiment, "provenance": model.provenance}
    write_json(folder / CONFIG, _head(model.kind) | {"dtype": dtype} | fields | facts)
    model.frontend.to_json(folder / FRONTEND)
    _write_texts(folder, card)


def write_codec(folder: Path, weights: CodecWeights, card: str) -> None:
    """Writes the codec's folder, which must not be there; `--codec` of the commands takes it, too.

    In float32: in fewer bits it would give other codes.
    """
    folder.mkdir()
    shapes = {name: array.shape for name, array in weights.arrays.items()}
    write_weights(folder / WEIGHTS, shapes, weights.arrays.__getitem__, "float32")
    facts = {"encodec": dataclasses.asdict(weights.config), "name": weights.name, "sha256": weights.sha256}
    write_json(folder / CONFIG, _head("codec") | {"dtype": "float32"} | facts)
    _write_texts(folder, card)


def write_root(folder: Path, card: str) -> None:
    """Writes what stands beside the parts: the card of the whole, and the modeling file once more."""
    _write_texts(folder, card)


def _write_texts(folder: Path, card: str) -> None:
    write_bytes(folder / CARD, card.encode())
    write_bytes(folder / MODELING, modeling_source().encode())


def _head(kind: str) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of an exported model. Raises InputError for a folder that is none, or of another format."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that ellav export wrote, such as OUT/gar")
    if not path.is_file() and (inside := [name for name in ("gar", "nar") if (folder / name / CONFIG).is_file()]):
        raise InputError(f"{folder}: holds {' and '.join(inside)}; name one of them: {folder / inside[0]}")
    config = read_json(path, "description of an exported model")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{path}: not the description of a model that ellav export wrote")
    if config.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: format {config.get('format_version')}, expected {FORMAT_VERSION}; export it with this version"
        )
    return config


@contextlib.contextmanager
def new_export(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yields a folder to write an export into; it takes the place of `out` when all is written; a failure removes it.

    An export that is there already stays when it is the same, and is replaced with `overwrite`. Raises InputError, at the
    beginning, for an `out` that holds anything else, and at the end for another export without `overwrite`.
    """
    _check_replaceable(out)
    with new_folder(out, lambda temporary: _replaces(temporary, out, overwrite)) as temporary:
        yield temporary


@contextlib.contextmanager
def new_folder(out: Path, wanted: Callable[[Path], bool] = lambda temporary: True) -> Iterator[Path]:
    """The same for any folder. wanted: (what was written) → whether it is to take the place of what is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unique = secrets.token_hex(4)
    temporary, old = (out.with_name(f".{out.name}.{unique}.{end}") for end in ("tmp", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if wanted(temporary):
            if out.exists():
                out.rename(old)
            temporary.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for path in (temporary, old):
            shutil.rmtree(path, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: a file is in the way; expected a folder, which may be new")
    inside = sorted(path.name for path in out.iterdir())
    foreign = [name for name in inside if name not in (*PARTS, CARD, MODELING)]
    parts = [name for name in PARTS if name in inside]
    if inside and (foreign or not parts):
        what = f"{', '.join(foreign[:5])}" if foreign else "no model"
        raise InputError(f"{out}: not empty and not only an export of ellav (it holds {what}); choose another folder")


def _replaces(temporary: Path, out: Path, overwrite: bool) -> bool:
    if not out.exists() or not any(out.iterdir()):
        return True
    if _same(temporary, out):
        return False
    if not overwrite:
        parts = [name for name in PARTS if (out / name).is_dir()]
        raise InputError(
            f"{out}: holds another export ({', '.join(parts)}); replace all of it with --overwrite, or choose another folder"
        )
    return True


def _same(one: Path, other: Path) -> bool:
    files = [{path.relative_to(top) for path in top.rglob("*") if path.is_file()} for top in (one, other)]
    return files[0] == files[1] and all(filecmp.cmp(one / name, other / name, shallow=False) for name in files[0])


def total_bytes(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())
