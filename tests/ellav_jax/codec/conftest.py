"""Real speech, models of the official size with random weights and filled codebooks, and the reference packages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from data_pipelines.corpora import open_corpus
from ellav_jax.codec.bootstrap import fill_codebooks
from ellav_jax.codec.codec import Codec
from ellav_jax.codec.config import CodecConfig
from ellav_jax.codec.package_backend import PackageCodec, build_package_model
from ellav_jax.codec.weights import CodecWeights, package_name, read_weights, weights_from_arrays
from ellav_jax.resampling import resample
from tests.torch_threads import one_torch_thread  # noqa: F401  a fixture, used by itself


@pytest.fixture(scope="session")
def speech() -> list[np.ndarray]:
    """Eight bundled clips at 24 kHz, 0.4 to 4 seconds, none a multiple of a frame."""
    utterances = open_corpus("bundled").utterances
    waves = [resample(*one.audio.read(), 24_000) for one in utterances[::30]]
    return [wave for wave in waves if len(wave) < 4 * 24_000][:8]


@pytest.fixture(scope="session")
def full_size_file(tmp_path_factory: pytest.TempPathFactory, speech: list[np.ndarray]) -> Path:
    """A checkpoint file as the encodec package writes it: 32 filters, random weights, filled codebooks."""
    torch.manual_seed(0)
    model = build_package_model(CodecConfig())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight_g"):
                parameter *= 1.5  # torch's own start lets the signal fade to nearly nothing over so many layers
    state = model.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    fresh = weights_from_arrays(arrays, name="fresh", sha256="", allow_equal_vectors=True)
    filled = fill_codebooks(fresh, speech, seed=1)
    for name, array in filled.arrays.items():
        state[name] = torch.from_numpy(array.copy())
    path = tmp_path_factory.mktemp("full_size") / "encodec_24khz.th"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def full_size_weights(full_size_file: Path) -> CodecWeights:
    return read_weights(str(full_size_file))


@pytest.fixture(scope="session")
def full_size_codec(full_size_weights: CodecWeights) -> Codec:
    return Codec(full_size_weights)


@pytest.fixture(scope="session")
def full_size_package(full_size_weights: CodecWeights) -> PackageCodec:
    return PackageCodec(full_size_weights)


@pytest.fixture(scope="session")
def bundled_package() -> PackageCodec:
    return PackageCodec(read_weights("bundled"))


class TransformersCodec:
    """transformers' EncodecModel with the weights' arrays: a second reference beside the encodec package."""

    def __init__(self, weights: CodecWeights):
        config = EncodecConfig(num_filters=weights.config.filters, target_bandwidths=[6.0])
        self.model = EncodecModel(config).eval()
        state = self.model.state_dict()
        theirs = {package_name(name): name for name in state}
        for name, array in weights.arrays.items():
            state[theirs[name]] = torch.from_numpy(array.copy())
        self.model.load_state_dict(state)

    def encode(self, waveform: np.ndarray) -> np.ndarray:
        """Codes [ceil(S / 320), 8] of a waveform padded with zeros to whole frames."""
        padded = torch.from_numpy(np.pad(waveform, (0, -len(waveform) % 320)))
        with torch.inference_mode():
            return self.model.encode(padded[None, None], bandwidth=6.0).audio_codes[0, 0].T.numpy()

    def decode(self, codes_Tx8: np.ndarray) -> np.ndarray:
        """Waveform [T * 320]."""
        codes = torch.from_numpy(codes_Tx8.astype(np.int64)).T[None, None]
        with torch.inference_mode():
            return self.model.decode(codes, [None]).audio_values[0, 0].numpy()


@pytest.fixture(scope="session")
def transformers_codec() -> Callable[[CodecWeights], TransformersCodec]:
    return TransformersCodec
