"""What every codec backend asks of its inputs."""

import numpy as np

from ellav_jax.codec.config import NUM_CODEBOOKS, SAMPLE_RATE
from ellav_jax.errors import InputError


def checked_waveform(waveform: np.ndarray, hop: int) -> np.ndarray:
    """The waveform as float32, zero-padded to whole frames of `hop` samples; InputError for what is no mono audio."""
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise InputError(
            f"codec input: found an array of {waveform.dtype} {list(waveform.shape)}, expected mono floating-point "
            f"samples [S] in -1…1 at {SAMPLE_RATE} Hz"
        )
    if not waveform.size:
        raise InputError("codec input: the waveform is empty; expected at least one sample")
    if not np.isfinite(waveform).all():
        bad = int(np.argmin(np.isfinite(waveform)))
        raise InputError(f"codec input: sample {bad} is {waveform[bad]}; expected finite samples")
    return np.pad(waveform.astype(np.float32), (0, -waveform.size % hop))


def checked_codes(codes: np.ndarray, codebook_size: int) -> np.ndarray:
    """The codes as int32; InputError unless they are integers [T >= 1, 8] in 0…codebook_size - 1."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != NUM_CODEBOOKS or not codes.size or codes.dtype.kind not in "iu":
        raise InputError(
            f"codec codes: found an array of {codes.dtype} {list(codes.shape)}, expected integers [T, {NUM_CODEBOOKS}] "
            "with at least one frame"
        )
    if codes.min() < 0 or codes.max() >= codebook_size:
        raise InputError(
            f"codec codes: found values {codes.min()}…{codes.max()}, expected 0…{codebook_size - 1} (special symbols "
            "must be taken out first)"
        )
    return codes.astype(np.int32)
