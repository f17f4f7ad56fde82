"""Sound files in, mono float32 waveforms out."""

import re
from pathlib import Path

import numpy as np
import soundfile

from ellav_jax.errors import InputError
from ellav_jax.files import atomic_path

# -60 dB of full scale. The quietest of the bundled clips peaks 128 times higher.
SILENCE_PEAK = 1e-3


def read_audio(path: str | Path, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Reads a recording (WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF: whatever libsndfile reads).

    Returns the waveform, float32 [S] in [-1, 1] (the mean of its channels), and its sampling rate in Hz. With
    `max_seconds`, a longer file is refused before it is decoded further.

    Raises InputError for a file that is missing, empty, not audio, cut off or damaged, has samples that aren't numbers,
    is silent (peak below `SILENCE_PEAK`), or is too long.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}; expected a recording")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); expected a recording")
    try:
        with soundfile.SoundFile(path) as file:
            rate, declared = file.samplerate, file.frames
            limit = declared if max_seconds is None else int(max_seconds * rate)
            _check_whole(path, file.extra_info)
            _check_length(path, declared / rate, max_seconds)
            # A damaged header can claim any length: never decode past the limit.
            wave_SxC = file.read(frames=min(declared, limit + 1), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: not a recording that can be read ({error}); convert it to WAV or FLAC") from None
    samples = wave_SxC.shape[0]
    if samples == 0:
        raise InputError(f"{path}: the recording holds no samples; expected speech")
    if samples < declared:
        raise InputError(f"{path}: cut off or damaged: {declared} samples announced, {samples} could be read")
    wave = wave_SxC.mean(axis=1)
    if not np.isfinite(wave).all():
        raise InputError(f"{path}: {np.count_nonzero(~np.isfinite(wave))} samples are NaN or infinite; export it again")
    peak = float(np.abs(wave).max())
    if peak < SILENCE_PEAK:
        raise InputError(f"{path}: silent (peak {peak:.1e} of full scale, speech needs at least {SILENCE_PEAK:.0e})")
    return wave, rate


def write_audio(path: str | Path, waveform_S: np.ndarray, sample_rate: int) -> None:
    """Writes float32 [S] in [-1, 1] (clipped to it) as 16-bit WAV, atomically."""
    with atomic_path(path) as temporary:
        soundfile.write(temporary, np.clip(waveform_S, -1, 1), sample_rate, subtype="PCM_16", format="WAV")


def _check_whole(path: Path, parser_log: str) -> None:
    # libsndfile shortens a WAV or AIFF that was cut off without an error, and says so only in its log. Streamed files
    # announce a length near 2 or 4 GiB because it wasn't known: those are whole.
    cut = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", parser_log)
    if cut and int(cut[2]) < int(cut[1]) < 0x7FFFFF00:
        raise InputError(f"{path}: cut off: {cut[1]} bytes of sound announced, {cut[2]} are there; copy it again")


def _check_length(path: Path, seconds: float, max_seconds: float | None) -> None:
    if max_seconds is not None and seconds > max_seconds:
        raise InputError(
            f"{path}: lasts {seconds:.1f} s, the limit is {max_seconds:g} s; cut it into sentences or raise the limit"
        )
