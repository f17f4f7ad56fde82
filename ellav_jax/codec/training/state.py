"""What a training run has come to, in one file of plain tensors and numbers."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ellav_jax.codec.config import NUM_CODEBOOKS, CodecConfig
from ellav_jax.codec.weights import codebook_name, expected_shapes
from ellav_jax.errors import InputError
from ellav_jax.files import atomic_path, write_bytes

_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class SavedState:
    """step: steps done. cpu_seconds: spent on them, over all threads. filters: the codec's size. parameters: what the
    optimiser trains. quantizer: `TrainedCodebooks.state()`. average: moving average of both, which is exported.
    optimizer: `CodecOptimizer.state()`, empty before the first step. adversary: `Adversary.state()`; None before it
    joins. norms: the balancer's."""

    step: int
    cpu_seconds: float
    filters: int
    parameters: dict[str, torch.Tensor]
    quantizer: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    adversary: dict[str, Any] | None
    norms: dict[str, tuple[float, int]]


def write_state(path: Path, state: SavedState) -> None:
    """Writes the state atomically."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    with atomic_path(path) as temporary:
        torch.save({"format": _FORMAT, **fields}, temporary)


def read_state(path: Path) -> SavedState:
    """Reads what `write_state` wrote. Raises InputError for any other file."""
    try:
        fields = torch.load(path, map_location="cpu", weights_only=True)
        if fields.pop("format") != _FORMAT:
            raise KeyError("format")
        state = SavedState(**fields)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not the state of a codec's training ({reason}); give another --out, or take the file away to "
            "begin again"
        ) from None
    expected = expected_shapes(CodecConfig(state.filters))
    if set(state.average) != set(expected) or any(tuple(state.average[n].shape) != expected[n] for n in expected):
        raise InputError(f"{path}: its arrays are not those of an EnCodec with {state.filters} filters")
    return state


def export_weights(path: Path, arrays: dict[str, torch.Tensor]) -> None:
    """Writes arrays named as in the encodec package as float16 safetensors, atomically: `load_codec(path)` reads them.

    Codebooks keep their vectors to 11 bits, as everything else: the codes are chosen by those rounded vectors.
    """
    from safetensors.numpy import save

    rounded = {name: array.detach().numpy().astype(np.float16) for name, array in sorted(arrays.items())}
    write_bytes(path, save(rounded))


def trained_names(config: CodecConfig) -> list[str]:
    """Names of the arrays that the optimiser trains: all but the codebooks, which follow averages."""
    codebooks = {codebook_name(layer) for layer in range(NUM_CODEBOOKS)}
    return [name for name in expected_shapes(config) if name not in codebooks]
