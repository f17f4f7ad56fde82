"""Parameters of the JAX models ↔ state dicts of `torch_modules`, with NumPy arrays in between; both ways exact.

What differs: blocks are stacked along a layer axis there and numbered here, matrices are [in, out] there and [out, in]
here, queries, keys and values are three products there and one here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ellav_jax.errors import InputError

Arrays = dict[str, np.ndarray]
"""State dict with NumPy arrays; names as in `torch_modules`."""

_QKV = ("query", "key", "value")
_BLOCKS = "transformer.blocks."


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a weight there comes from: `paths` of one parameter here, or of three that are joined; `layer` of a stacked one.

    turned: a matrix, which is [out, in] there. shape: there.
    """

    paths: tuple[str, ...]
    layer: int | None
    turned: bool
    shape: tuple[int, ...]

    def read(self, flat: Mapping[str, np.ndarray]) -> np.ndarray:
        """The weight, out of the parameters by path; a copy only where it has to be."""
        parts = [flat[path] if self.layer is None else flat[path][self.layer] for path in self.paths]
        parts = [part.T if self.turned else part for part in parts]
        return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def sources(shapes: Mapping[str, Any]) -> dict[str, Source]:
    """Name of each weight in torch_modules → where it comes from, given a GAR's or a NAR's parameters or their shapes."""
    table: dict[str, Source] = {}
    for path, leaf in flatten(shapes).items():
        stacked = path.startswith(_BLOCKS)
        for layer in range(leaf.shape[0]) if stacked else [None]:
            name = path if layer is None else path.replace(_BLOCKS, f"{_BLOCKS}{layer}.")
            name, turned = _torch_name(name), path.endswith(".kernel")
            shape = tuple(leaf.shape[1:] if stacked else leaf.shape)
            shape = shape[::-1] if turned else shape
            part = next((one for one in _QKV if f".{one}." in name), None)
            if part is None:
                table[name] = Source((path,), layer, turned, shape)
                continue
            paths = tuple(path.replace(f".{part}.", f".{one}.") for one in _QKV)
            table[name.replace(f".{part}.", ".qkv.")] = Source(paths, layer, turned, (3 * shape[0], *shape[1:]))
    return table


def to_torch(params: Mapping[str, Any]) -> Arrays:
    """Nested dict of float32 arrays of a GAR or a NAR → state dict of the same model in torch_modules."""
    flat = flatten(params)
    return {name: source.read(flat) for name, source in sources(params).items()}


def from_torch(state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse. `shapes`: those of the parameters wanted (`ModelDefinition.shapes`).

    Raises InputError that names every weight which is missing, has another shape, or belongs to no parameter.
    """
    table = sources(shapes)
    problems: list[str] = []
    for name, source in table.items():
        found = "missing" if name not in state else f"is {list(state[name].shape)}"
        if name not in state or tuple(state[name].shape) != source.shape:
            problems.append(f"{name} {found}, expected {list(source.shape)}")
    problems += [f"{name} belongs to no parameter" for name in state if name not in table]
    if problems:
        raise InputError(f"weights do not fit the model: {'; '.join(problems)}")
    flat = {path: np.empty(leaf.shape, np.float32) for path, leaf in flatten(shapes).items()}
    for name, source in table.items():
        for path, part in zip(source.paths, np.split(np.asarray(state[name]), len(source.paths)), strict=True):
            into = flat[path] if source.layer is None else flat[path][source.layer]
            into[...] = part.T if source.turned else part
    params: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, last = path.split(".")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return params


def torch_config(config: Any) -> dict[str, Any]:
    """Fields of a `TransformerConfig` that `torch_modules.TransformerConfig` takes; precision and remat are JAX's own."""
    names = ("num_layers", "num_heads", "width", "ff_width", "dropout", "norm", "feed_forward", "position")
    return {name: getattr(config, name) for name in names}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dicts by their path, as "transformer.norm.scale"; arrays as NumPy's, shapes as they are."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, jax.ShapeDtypeStruct) else np.asarray(value)
    return flat


def _torch_name(path: str) -> str:
    for ours, theirs in ((".kernel", ".weight"), (".scale", ".weight")):
        if path.endswith(ours):
            return path.removesuffix(ours) + theirs
    # Embeddings of one index are modules there; those of layer and code are plain parameters of the same name.
    return f"{path}.weight" if path in ("embedding", "phone_embedding", "stage_embedding") else path
