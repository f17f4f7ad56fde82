"""The encodec package itself as a codec backend (torch), with the interface of `codec.Codec`."""

import contextlib
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ellav_jax.codec.checks import checked_codes, checked_waveform
from ellav_jax.codec.config import NUM_CODEBOOKS, RATIOS, SAMPLE_RATE, CodecConfig
from ellav_jax.codec.weights import CodecWeights
from ellav_jax.errors import InputError


def import_encodec() -> types.ModuleType:
    """The encodec package. Raises InputError, naming the extra, when it or torch is not installed."""
    for name in ("torch", "encodec"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"the encodec backend needs the package {name}: pip install 'ellav-jax[torch]'")
    with _torchaudio_stand_in():
        import encodec
    return encodec


@contextlib.contextmanager
def _torchaudio_stand_in() -> Iterator[None]:
    """encodec imports torchaudio for reading files and resampling alone, which we don't use, and torchaudio often does
    not load (no build for the torch at hand, missing CUDA libraries). An empty module stands in for it while encodec is
    imported, and is taken out again lest others mistake it for the real one."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        try:
            yield
        finally:
            del sys.modules["torchaudio"]
    else:
        yield


def fetch_official_weights() -> Path:
    """The encodec package's own 24 kHz checkpoint in torch's download cache, fetched from its authors if not there."""
    import_encodec()
    import torch
    from encodec.model import ROOT_URL

    name = "encodec_24khz-d7cc33bc.th"  # as in encodec.model.EncodecModel; the digits begin its SHA-256
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(ROOT_URL + name, os.fspath(path), hash_prefix="d7cc33bc", progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"codec 'encodec': its official weights are not at {path} and could not be fetched from "
                f"{ROOT_URL}{name} ({error}); fetch the file elsewhere and put it there, or use 'encodec:bundled'"
            ) from None
    return path


def build_package_model(config: CodecConfig) -> Any:
    """A fresh `encodec.EncodecModel` (mono, causal, 6 kbit/s) of these sizes in evaluation mode.

    Its codebooks are all zero: load weights, or fill them (bootstrap.fill_codebooks), before encoding.
    """
    encodec = import_encodec()
    from encodec import quantization
    from encodec.modules import SEANetDecoder, SEANetEncoder

    sizes = {"dimension": config.dimension, "n_filters": config.filters, "ratios": list(RATIOS), "causal": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch on the package's weight_norm
        encoder, decoder = (side(norm="weight_norm", **sizes) for side in (SEANetEncoder, SEANetDecoder))
    quantizer = quantization.ResidualVectorQuantizer(config.dimension, n_q=NUM_CODEBOOKS, bins=config.codebook_size)
    bandwidth = NUM_CODEBOOKS * np.log2(config.codebook_size) * config.frame_rate / 1000  # kbit/s
    model = encodec.EncodecModel(encoder, decoder, quantizer, [float(bandwidth)], SAMPLE_RATE, channels=1)
    return model.eval()


class PackageCodec:
    """EnCodec run by the encodec package on the CPU, clip by clip."""

    sample_rate = SAMPLE_RATE
    num_codebooks = NUM_CODEBOOKS

    def __init__(self, weights: CodecWeights):
        self.name, self.sha256 = weights.name, weights.sha256
        self.hop, self.frame_rate = weights.config.hop, weights.config.frame_rate
        self.codebook_size = weights.config.codebook_size
        self.model = build_package_model(weights.config)
        import torch

        self._torch = torch
        arrays = {name: torch.from_numpy(array.copy()) for name, array in weights.arrays.items()}
        # Not strict: the moving averages, which only training needs, are not among the weights. weights.py has checked
        # that all else is there.
        self.model.load_state_dict(arrays, strict=False)

    def encode(self, waveform: np.ndarray) -> np.ndarray:
        """Mono float samples [S] at 24 kHz → codes int32 [ceil(S / 320), 8]. Raises InputError for anything else."""
        samples = self._torch.from_numpy(checked_waveform(waveform, self.hop))
        with self._torch.inference_mode():
            [(codes_1xQxT, _)] = self.model.encode(samples[None, None])
        return codes_1xQxT[0].T.numpy().astype(np.int32)

    def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `encode` for each waveform, one by one: padding to a common length would change the package's codes."""
        return [self.encode(waveform) for waveform in waveforms]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes, integers [T, 8] → waveform float32 [T * 320] at 24 kHz. Raises InputError for anything else."""
        codes_TxQ = self._torch.from_numpy(checked_codes(codes, self.codebook_size).astype(np.int64))
        with self._torch.inference_mode():
            return self.model.decode([(codes_TxQ.T[None], None)])[0, 0].numpy()

    def decode_batch(self, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `decode` for each array of codes, one by one."""
        return [self.decode(one) for one in codes]
