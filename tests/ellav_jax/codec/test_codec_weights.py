"""The three weight formats, made from the packages' own classes, and what is wrong with files that are refused."""

import hashlib
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import load_file, save_file

from ellav_jax.codec import load_codec
from ellav_jax.codec.config import CodecConfig
from ellav_jax.codec.modules import fold_weight_norm
from ellav_jax.codec.package_backend import build_package_model
from ellav_jax.codec.weights import BUNDLED_FILE, expected_shapes, read_weights, weights_from_arrays
from ellav_jax.errors import InputError


@pytest.fixture
def bundled_arrays() -> dict[str, np.ndarray]:
    return load_file(BUNDLED_FILE)


def assert_same_arrays(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_bundled_weights_are_float32_with_their_config_and_hash():
    weights = read_weights("bundled")
    assert weights.config == CodecConfig(filters=16, dimension=128, codebook_size=1024)
    assert {array.dtype for array in weights.arrays.values()} == {np.dtype(np.float32)}
    assert weights.sha256 == hashlib.sha256(Path(BUNDLED_FILE).read_bytes()).hexdigest()
    assert weights.sha256 in BUNDLED_FILE.with_name("README.md").read_text(encoding="utf-8"), (
        "another file's model card"
    )


def test_expected_names_and_shapes_are_those_of_the_package():
    config = CodecConfig(filters=8, dimension=24, codebook_size=32)
    state = build_package_model(config).state_dict()
    unused = ("inited", "cluster_size", "embed_avg")
    assert expected_shapes(config) == {
        name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(unused)
    }


def test_weight_norm_folds_as_in_torch():
    convolution = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(6, 4, 8))
    with torch.no_grad():
        convolution.parametrizations.weight.original0.mul_(torch.rand(6, 1, 1))
    parts = convolution.parametrizations.weight
    arrays = {"c.weight_g": parts.original0.detach().numpy(), "c.weight_v": parts.original1.detach().numpy()}
    np.testing.assert_allclose(fold_weight_norm(arrays, "c"), convolution.weight.detach().numpy(), rtol=1e-6)


def test_the_official_checkpoint_has_32_codebooks_of_which_8_are_read(full_size_file, tmp_path):
    state = torch.load(full_size_file, weights_only=True)
    for layer in range(8, 32):
        for part in ("embed", "embed_avg", "cluster_size", "inited"):
            state[f"quantizer.vq.layers.{layer}._codebook.{part}"] = state[
                f"quantizer.vq.layers.0._codebook.{part}"
            ].clone()
    torch.save(state, tmp_path / "official.th")
    assert_same_arrays(read_weights(str(tmp_path / "official.th")).arrays, read_weights(str(full_size_file)).arrays)


@pytest.mark.parametrize("naming", ["parametrizations", "weight_g"])
def test_transformers_files_hold_the_same_arrays(full_size_weights, transformers_codec, tmp_path, naming):
    state = transformers_codec(full_size_weights).model.state_dict()
    arrays = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
    assert any("parametrizations.weight.original0" in name for name in arrays)
    if naming == "weight_g":  # as files written with an older torch have it, the official one among them
        arrays = {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): array
            for name, array in arrays.items()
        }
    save_file(arrays, tmp_path / "model.safetensors")
    for spec in (tmp_path, tmp_path / "model.safetensors"):
        weights = read_weights(str(spec))
        assert weights.config == CodecConfig(filters=32, dimension=128, codebook_size=1024)
        assert_same_arrays(weights.arrays, full_size_weights.arrays)


def test_a_hub_id_is_fetched_through_huggingface_hub(monkeypatch):
    asked = []

    def download(repository, filename):
        asked.append((repository, filename))
        return str(BUNDLED_FILE)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    weights = read_weights("facebook/encodec_24khz")
    assert asked == [("facebook/encodec_24khz", "model.safetensors")]
    assert weights.name == "facebook/encodec_24khz"
    assert weights.sha256 == read_weights("bundled").sha256


def test_a_hub_id_without_network_is_one_clear_error(monkeypatch):
    def download(repository, filename):
        raise LocalEntryNotFoundError("cannot find the file in the local cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError, match=r"facebook/encodec_24khz.*not fetched.*a network"):
        read_weights("facebook/encodec_24khz")


def test_every_wrong_array_is_listed(bundled_arrays):
    del bundled_arrays["encoder.model.13.lstm.bias_ih_l0"], bundled_arrays["decoder.model.15.conv.conv.bias"]
    bundled_arrays["encoder.model.0.conv.conv.bias"] = np.zeros(7, np.float32)
    bundled_arrays["decoder.model.0.conv.conv.bias"][3] = np.nan
    bundled_arrays["discriminator.0.weight"] = np.zeros(1)
    with pytest.raises(InputError) as error:
        weights_from_arrays(bundled_arrays, name="broken", sha256="")
    for part in (
        "broken",
        "missing encoder.model.13.lstm.bias_ih_l0 [1024]",
        "missing decoder.model.15.conv.conv.bias [1]",
        "encoder.model.0.conv.conv.bias has shape [7], expected [16]",
        "decoder.model.0.conv.conv.bias has NaN",
        "unknown discriminator.0.weight",
    ):
        assert part in str(error.value)


def test_a_fresh_model_is_refused_as_every_code_ties(tmp_path):
    model = build_package_model(CodecConfig(filters=4, dimension=16, codebook_size=32))
    torch.save(model.state_dict(), tmp_path / "fresh.th")
    with pytest.raises(InputError, match=r"codebook 1 are equal.*fill_codebooks"):
        load_codec(str(tmp_path / "fresh.th"))


def test_files_that_are_no_codec_are_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.th").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(BUNDLED_FILE.read_bytes()[:100_000])
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    torch.save({"best_state": {"a": torch.zeros(1)}}, tmp_path / "nested.th")
    torch.save(build_package_model, tmp_path / "code.th")  # a pickled function, which must not be run
    (tmp_path / "empty").mkdir()
    for name, reason in {
        "text.safetensors": "not a readable safetensors file",
        "cut.safetensors": "not a readable safetensors file",
        "other.safetensors": "first names found: a",
        "text.th": "not a readable torch file",
        "nested.th": "no flat state dict",
        "code.th": "not a readable torch file",
        "empty": "has no model.safetensors",
        "missing.th": "no such file",
        "missing": "no such file",
    }.items():
        with pytest.raises(InputError, match=reason):
            read_weights(str(tmp_path / name))
