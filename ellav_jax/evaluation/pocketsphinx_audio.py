"""Sound in the form that pocketsphinx hears best."""

from typing import Any

import numpy as np

from ellav_jax.resampling import resample

_RATE = 16000
_PADDING_SECONDS = 0.2
_NOISE_RMS = 10 ** (-65 / 20)
"""Silence at both ends, and room noise: the acoustic model knows no digital silence. The same as before alignment."""


def pcm_for_pocketsphinx(waveform_S: np.ndarray, sample_rate: int) -> bytes:
    """float32 [S] in [-1, 1] → int16 at 16 kHz with 0.2 s of silence at both ends and noise of -65 dB, always the same."""
    padded = np.pad(resample(waveform_S, sample_rate, _RATE), round(_PADDING_SECONDS * _RATE))
    noisy = padded + np.random.default_rng(0).normal(0.0, _NOISE_RMS, len(padded))
    return np.rint(np.clip(noisy, -1, 1) * 32767).astype("<i2").tobytes()


def decode_pcm(decoder: Any, pcm: bytes) -> None:
    """Lets a pocketsphinx decoder hear one whole utterance."""
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
