"""Safetensors files: written weight by weight, so that no second copy of a model is made; read with every fault named."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ellav_jax.errors import InputError

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16), "float16": np.dtype(np.float16)}
_CODES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def write_weights(
    path: Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray], dtype: str
) -> None:
    """Writes weights of these names and shapes; `read(name)` gives each in turn, `dtype` is that of the file.

    The format: length of the header (8 bytes, little-endian), the header in JSON, the weights one behind the other.
    Raises InputError for a weight that is finite but not in `dtype`.
    """
    size, end = DTYPES[dtype].itemsize, 0
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name in sorted(shapes):
        begin, end = end, end + size * int(np.prod(shapes[name], dtype=np.int64))
        header[name] = {"dtype": _CODES[dtype], "shape": list(shapes[name]), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(shapes):
            file.write(rounded(read(name), dtype, name).tobytes())


def rounded(array: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """The array in `dtype`. Raises InputError where a number is too large for it; `name` is the array's."""
    with np.errstate(over="ignore"):
        there = array.astype(DTYPES[dtype], copy=False)
    if dtype != "float32" and np.any(np.isfinite(array) & ~np.isfinite(there)):
        raise InputError(f"{name} holds {np.abs(array).max():g}, too large for {dtype}; export with --dtype bfloat16")
    return there


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """All weights of a file, as float32. Raises InputError when it is missing, damaged, or of no kind of float, and for
    weights that are NaN or infinite."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the weights of an exported model")
    state: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                array = file.get_tensor(name)
                if array.dtype not in (*DTYPES.values(), np.dtype(np.float64)):
                    raise InputError(f"{path}: {name} is of {array.dtype}, expected {', '.join(DTYPES)}")
                state[name] = array.astype(np.float32, copy=False)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable safetensors file ({error}); copy it again") from None
    if broken := [name for name, array in state.items() if not np.isfinite(array).all()]:
        raise InputError(f"{path}: NaN or infinite numbers in {', '.join(broken)}")
    return state
