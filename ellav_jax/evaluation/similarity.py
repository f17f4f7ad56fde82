"""Speaker similarity (SPK): cosine of speaker embeddings of what was spoken and of the prompt."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.evaluation.metric import Column, Heard
from ellav_jax.resampling import resample

RESEMBLYZER = "resemblyzer"
PAPER_MODEL = "microsoft/wavlm-base-plus-sv"
"""By the first author's code (VALL-E's, the paper's baseline)."""

_RATE = 16000
_MIN_SECONDS = 0.1
"""Shorter speech has no voice to tell."""

Encoder = Callable[[np.ndarray], np.ndarray]
"""float32 [S] at 16 kHz → embedding [E]."""


class SpeakerSimilarity:
    """Cosine of what stands behind the prompt with the prompt as the model was given it (decoded codes).

    Which prompt the paper compares with, decoded or recorded, is unknown; chosen because what is decoded is all that a
    model hears, and because sentences with codes alone have it too.
    """

    def __init__(self, name: str, encode: Encoder):
        """name: that of the encoder; part of the results' identity."""
        self.name = f"speaker-{name}"
        self._encode = encode
        self.columns = (Column("SPK", f"speaker similarity to the prompt, {name}", "similarity", None, 1, 3, "higher"),)

    def measure(self, heard: Heard) -> Mapping[str, Any]:
        """The cosine; None where less than 0.1 s was spoken, or in digital silence."""
        spoken, prompt = (resample(wave, heard.sample_rate, _RATE) for wave in (heard.spoken_S, heard.prompt_S))
        if min(len(spoken), len(prompt)) < _MIN_SECONDS * _RATE or not (spoken.any() and prompt.any()):
            return {"similarity": None}
        return {"similarity": cosine(self._encode(spoken), self._encode(prompt))}


def cosine(a_E: np.ndarray, b_E: np.ndarray) -> float:
    """Of the angle between two vectors; 0 where one of them is 0."""
    lengths = float(np.linalg.norm(a_E) * np.linalg.norm(b_E))
    return float(a_E @ b_E) / lengths if lengths else 0.0


def open_speaker_encoder(name: str) -> Encoder:
    """`resemblyzer` (weights in its package), or a WavLM speaker verification model of Hugging Face by name or folder.

    Raises InputError where the package or the model is missing.
    """
    if name == RESEMBLYZER:
        return resemblyzer_encoder()
    return wavlm_encoder(name)


def wavlm_encoder(name: str) -> Encoder:
    """x-vectors of transformers' WavLMForXVector, such as microsoft/wavlm-base-plus-sv. Raises InputError."""
    try:
        import torch
        from transformers import AutoFeatureExtractor, WavLMForXVector
    except ImportError:
        raise _missing(f"speaker encoder {name}", "torch and transformers") from None
    try:
        extract = AutoFeatureExtractor.from_pretrained(name)
        model = WavLMForXVector.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise InputError(
            f"speaker encoder {name}: neither {RESEMBLYZER} nor a WavLM speaker verification model that is here or could "
            f"be fetched ({str(error).splitlines()[0]}); give its folder, or a name such as {PAPER_MODEL}"
        ) from None

    def encode(waveform_S: np.ndarray) -> np.ndarray:
        inputs = extract(waveform_S, sampling_rate=_RATE, return_tensors="pt")
        with torch.no_grad():
            return model(**inputs).embeddings[0].numpy()

    return encode


def resemblyzer_encoder() -> Encoder:
    """The GE2E encoder of resemblyzer, with the weights of its package.

    The package itself is not imported, as it needs a compiled voice activity detector: long pauses are therefore not cut
    out. The rest is what it does: volume raised to -30 dB, windows of 1.6 s, 1.3 a second, whose embeddings are averaged.
    Raises InputError where it, torch or librosa is missing.
    """
    try:
        import librosa
        import torch
    except ImportError:
        raise _missing(f"speaker encoder {RESEMBLYZER}", "torch and librosa") from None
    found = importlib.util.find_spec(RESEMBLYZER)
    if found is None or found.origin is None:
        raise InputError(
            f"speaker encoder {RESEMBLYZER} needs the weights of its package; install it with: pip install --no-deps "
            f"{RESEMBLYZER}"
        )
    weights = torch.load(Path(found.origin).with_name("pretrained.pt"), map_location="cpu", weights_only=True)
    network = _Ge2e(torch, weights["model_state"])

    def encode(waveform_S: np.ndarray) -> np.ndarray:
        loudness = float(np.sqrt(np.mean(np.square(waveform_S))))
        waveform_S = waveform_S * max(_LOUDNESS / loudness, 1.0)
        slices = _windows(len(waveform_S))
        padded = np.pad(waveform_S, (0, max(slices[-1] * _HOP + _FRAMES * _HOP - len(waveform_S), 0)))
        mel_MxF = librosa.feature.melspectrogram(y=padded, sr=_RATE, n_fft=400, hop_length=_HOP, n_mels=40)
        windows_WxFxM = np.stack([mel_MxF.T[start : start + _FRAMES] for start in slices]).astype(np.float32)
        return network(windows_WxFxM).mean(axis=0)

    return encode


# What resemblyzer's hparams.py and its paper (GE2E, arXiv 1710.10467) say: frames of 10 ms, windows of 160 of them.
_HOP, _FRAMES, _WINDOWS_A_SECOND, _MIN_COVERAGE, _LOUDNESS = 160, 160, 1.3, 0.75, 10 ** (-30 / 20)


def _windows(num_samples: int) -> list[int]:
    """First frames of the windows; the last one may reach past the end by a quarter."""
    frames = -(-(num_samples + 1) // _HOP)
    step = round(_RATE / _WINDOWS_A_SECOND / _HOP)
    starts = list(range(0, max(1, frames - _FRAMES + step + 1), step))
    covered = (num_samples - starts[-1] * _HOP) / (_FRAMES * _HOP)
    return starts[:-1] if covered < _MIN_COVERAGE and len(starts) > 1 else starts


class _Ge2e:
    """Three LSTM layers of 256, a linear layer of 256, rectified, of length 1."""

    def __init__(self, torch: Any, state: Mapping[str, Any]):
        self._torch = torch
        self._lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self._linear = torch.nn.Linear(256, 256)
        for name, module in (("lstm", self._lstm), ("linear", self._linear)):
            module.load_state_dict(
                {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{name}.")}
            )

    def __call__(self, windows_WxFxM: np.ndarray) -> np.ndarray:
        with self._torch.no_grad():
            _, (hidden, _) = self._lstm(self._torch.from_numpy(windows_WxFxM))
            embeddings_WxE = self._torch.relu(self._linear(hidden[-1])).numpy()
        return embeddings_WxE / np.linalg.norm(embeddings_WxE, axis=1, keepdims=True)


def _missing(what: str, packages: str) -> InputError:
    return InputError(f"{what} needs {packages}; install them with: pip install 'ellav-jax[evaluate]'")
