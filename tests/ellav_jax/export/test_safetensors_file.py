"""Files of weights: what is written is what safetensors reads, and what can't be read is told."""

import numpy as np
import pytest
import safetensors.torch
import torch

from ellav_jax.errors import InputError
from ellav_jax.export.safetensors_file import read_weights, write_weights

WEIGHTS = {
    "b.weight": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32),
    "a.bias": np.array([1e-30, -0.0, 65504.0], np.float32),
    "one": np.float32(2.5).reshape(()),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def _write(path, weights=WEIGHTS, dtype="float32"):
    write_weights(path, {name: array.shape for name, array in weights.items()}, weights.__getitem__, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_safetensors_reads_what_torch_would_have_rounded(path, dtype):
    _write(path, dtype=dtype)
    state = safetensors.torch.load_file(path)
    assert state.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        expected = torch.tensor(array).to(getattr(torch, dtype))
        assert state[name].dtype == expected.dtype
        assert state[name].shape == expected.shape
        assert torch.equal(state[name], expected)
        np.testing.assert_array_equal(read_weights(path)[name], expected.float().numpy())


def test_a_turned_view_is_written_as_it_reads(path):
    turned = WEIGHTS["b.weight"].T
    write_weights(path, {"w": turned.shape}, lambda name: turned, "float32")
    np.testing.assert_array_equal(safetensors.torch.load_file(path)["w"].numpy(), turned)


def test_a_number_too_large_for_float16_is_refused(path):
    with pytest.raises(InputError, match=r"^big holds 1e\+06, too large for float16; export with --dtype bfloat16$"):
        _write(path, {"big": np.array([1e6], np.float32)}, "float16")


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_truncated_file_is_refused(path, kept):
    _write(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"^{path}: not a readable safetensors file"):
        read_weights(path)


def test_what_is_no_file_of_finite_floats_is_refused(path):
    with pytest.raises(InputError, match="no such file; expected the weights of an exported model"):
        read_weights(path)
    path.write_bytes(b"PK\x03\x04 a pickle, say, in its archive")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_weights(path)
    safetensors.torch.save_file({"codes": torch.zeros(3, dtype=torch.int64)}, path)
    with pytest.raises(InputError, match="codes is of int64, expected float32, bfloat16, float16"):
        read_weights(path)
    _write(path, {"x": np.array([1, np.nan], np.float32), "y": np.ones(2, np.float32)})
    with pytest.raises(InputError, match=r"NaN or infinite numbers in x$"):
        read_weights(path)
