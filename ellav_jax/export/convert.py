"""Parameters of the JAX models ↔ state dicts of `torch_modules`, with NumPy arrays in between; both ways exact.

What differs: blocks are stacked along a layer axis there and numbered here, matrices are [in, out] there and [out, in]
here, queries, keys and values are three products there and one here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ellav_jax.errors import InputError

Arrays = dict[str, np.ndarray]
"""State dict with NumPy arrays; names as in `torch_modules`."""

_QKV = ("query", "key", "value")
_BLOCKS = "transformer.blocks."


def to_torch(params: Mapping[str, Any]) -> Arrays:
    """Nested dict of float32 arrays of a GAR or a NAR → state dict of the same model in torch_modules."""
    state: Arrays = {}
    stacked = _flatten({"transformer": {"blocks": params["transformer"]["blocks"]}})
    num_layers = len(next(iter(stacked.values())))
    for path, array_LxX in stacked.items():
        for layer in range(num_layers):
            state.update([_to_torch(path.replace(_BLOCKS, f"{_BLOCKS}{layer}."), array_LxX[layer])])
    rest = {**params, "transformer": {"norm": params["transformer"]["norm"]}}
    state.update(_to_torch(path, array) for path, array in _flatten(rest).items())
    for prefix in [f"{_BLOCKS}{layer}." for layer in range(num_layers)]:
        for part in ("weight", "bias"):
            if f"{prefix}query.{part}" in state:
                state[f"{prefix}qkv.{part}"] = np.concatenate([state.pop(f"{prefix}{one}.{part}") for one in _QKV])
    return state


def from_torch(state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse. `shapes`: those of the parameters wanted (`ModelDefinition.shapes`).

    Raises InputError that names every weight which is missing, has another shape, or belongs to no parameter.
    """
    left = dict(state)
    problems: list[str] = []

    def take(path: str, shape: tuple[int, ...]) -> np.ndarray:
        name, expected = _to_torch(path, np.empty(shape, np.bool_))  # the name there, and the shape
        part = next((i for i, one in enumerate(_QKV) if f".{one}." in name), None)
        whole = expected.shape
        if part is not None:
            name = name.replace(f".{_QKV[part]}.", ".qkv.")
            whole = (3 * expected.shape[0], *expected.shape[1:])
        found = state.get(name)
        left.pop(name, None)
        if found is None or found.shape != whole:
            problems.append(
                f"{name} {'missing' if found is None else f'is {list(found.shape)}'}, expected {list(whole)}"
            )
            return np.empty(shape, np.float32)
        array = np.asarray(found, np.float32)
        if part is not None:
            array = array[part * expected.shape[0] :][: expected.shape[0]]
        return np.ascontiguousarray(array.T if path.endswith(".kernel") else array)

    params: dict[str, Any] = {}
    for path, leaf in _flatten(shapes).items():
        if path.startswith(_BLOCKS):
            names = [path.replace(_BLOCKS, f"{_BLOCKS}{layer}.") for layer in range(leaf.shape[0])]
            array = np.stack([take(name, leaf.shape[1:]) for name in names])
        else:
            array = take(path, leaf.shape)
        *parents, last = path.split(".")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    problems = list(dict.fromkeys(problems)) + [f"{name} belongs to no parameter" for name in left]
    if problems:
        raise InputError(f"weights do not fit the model: {'; '.join(problems)}")
    return params


def torch_config(config: Any) -> dict[str, Any]:
    """Fields of a `TransformerConfig` that `torch_modules.TransformerConfig` takes; precision and remat are JAX's own."""
    names = ("num_layers", "num_heads", "width", "ff_width", "dropout", "norm", "feed_forward", "position")
    return {name: getattr(config, name) for name in names}


def _to_torch(path: str, array: Any) -> tuple[str, np.ndarray]:
    array = np.asarray(array)
    for ours, theirs in ((".kernel", ".weight"), (".scale", ".weight")):
        if path.endswith(ours):
            return path.removesuffix(ours) + theirs, np.ascontiguousarray(array.T if ours == ".kernel" else array)
    # Embeddings of one index are modules there; those of layer and code are plain parameters of the same name.
    return (f"{path}.weight" if path in ("embedding", "phone_embedding", "stage_embedding") else path), array


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
