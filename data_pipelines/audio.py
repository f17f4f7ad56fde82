"""Sound files in, mono float32 waveforms out."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import soundfile

from data_pipelines.containers import check_whole
from ellav_jax.errors import UnusableError
from ellav_jax.files import atomic_path

# -60 dB of full scale. The quietest of the bundled clips peaks 128 times higher.
SILENCE_PEAK = 1e-3

# +18 dB: float files may pass full scale a little, but a peak of thousands is integers stored as floats.
OVER_FULL_SCALE = 8.0

CLIPPED_SHARE = 0.01
"""Overdriven: more than this share of the samples stands at the recording's own highest or lowest value, three or more
in a row. None of the 542 bundled clips has any such run. Raised to full scale and by 3 dB more, and cut there, half of
them stand above 0.8 %; with 6 dB, 99 of 100 above 1 %; with 12 dB, all above 5 %. So a loud chapter with a few clipped
peaks is let through."""

# A plateau counts within half a step of 16 bits, and above -20 dB of full scale: the top step of a quiet 8-bit file is
# no overdrive.
_PLATEAU, _LOUD = 2**-16, 0.1

# Durations in manifests are rounded: a part may end so much behind the end of its file.
_TOLERANCE_S = 0.01

# A damaged header can claim any length: memory is taken a block at a time.
_BLOCK = 1 << 20


def read_audio(
    path: str | Path, max_seconds: float | None = None, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Reads a recording (WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF: whatever libsndfile reads), or a part of it.

    The part begins at start_s and lasts duration_s (s; None: to the end of the file); only it is decoded. It is what
    the same samples of the whole file are: bit by bit in WAV, FLAC and Vorbis, to 1e-6 in MP3, to 0.005 in Opus, whose
    decoder takes a second or two to forget where it began.

    Returns the waveform, float32 [S] in [-1, 1] (the mean of its channels), and its sampling rate in Hz.

    Raises UnusableError: audio-missing; audio-unreadable for a file that is empty, not audio, or damaged; audio-truncated
    for one that is cut off, and for a part that isn't all inside its file (10 ms are let pass at the end);
    audio-too-long above `max_seconds`, before anything is decoded; audio-nan, audio-silent (peak below `SILENCE_PEAK`),
    audio-clipped (`CLIPPED_SHARE`). Where the part ends before its file does, the rest of the file isn't looked at.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        found = "is a folder" if os.path.isdir(path) else "no such file"
        raise UnusableError("audio-missing", f"{path}: {found}; expected a recording")
    if path.stat().st_size == 0:
        raise UnusableError("audio-unreadable", f"{path}: the file is empty (0 bytes); expected a recording")
    return _read(path, str(path), max_seconds, start_s, duration_s)


def decode_audio(data: bytes, name: str, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """`read_audio` of a file that is in memory; `name` is for messages. Raises UnusableError as it does."""
    if not data:
        raise UnusableError("audio-unreadable", f"{name}: the recording is empty (0 bytes)")
    return _read(data, name, max_seconds, 0.0, None)


def usable_waveform(samples_SxC: np.ndarray, name: str) -> np.ndarray:
    """The mean of the channels, float32 [S] in [-1, 1], of float32 samples at full scale 1; `name` is for messages.

    Raises UnusableError: audio-unreadable without samples or when they aren't in [-1, 1]; audio-nan, audio-silent,
    audio-clipped.
    """
    if samples_SxC.shape[0] == 0:
        raise UnusableError("audio-unreadable", f"{name}: the recording holds no samples; expected speech")
    bad = np.count_nonzero(~np.isfinite(samples_SxC).all(axis=1))
    if bad:
        raise UnusableError("audio-nan", f"{name}: {bad} samples are NaN or infinite; export it again")
    wave_S = samples_SxC.mean(axis=1)
    peak = float(np.abs(wave_S).max())
    if peak < SILENCE_PEAK:
        raise UnusableError(
            "audio-silent",
            f"{name}: silent (peak {peak:.1e} of full scale, speech needs at least {SILENCE_PEAK:.0e})",
        )
    if peak > OVER_FULL_SCALE:
        raise UnusableError(
            "audio-unreadable", f"{name}: samples reach {peak:.0f}, expected -1 to 1 in a float file; export it again"
        )
    share = max(_clipped_share(samples_SxC[:, channel]) for channel in range(samples_SxC.shape[1]))
    if share > CLIPPED_SHARE:
        raise UnusableError(
            "audio-clipped",
            f"{name}: overdriven: {share:.1%} of its samples stand at its limits, at most {CLIPPED_SHARE:.0%} may",
        )
    # Lossy formats pass full scale a little.
    return np.clip(wave_S, -1, 1)


def write_audio(path: str | Path, waveform_S: np.ndarray, sample_rate: int) -> None:
    """Writes float32 [S] in [-1, 1] (clipped to it) as 16-bit WAV, atomically."""
    with atomic_path(path) as temporary:
        soundfile.write(temporary, np.clip(waveform_S, -1, 1), sample_rate, subtype="PCM_16", format="WAV")


def _read(
    source: Path | bytes, name: str, max_seconds: float | None, start_s: float, duration_s: float | None
) -> tuple[np.ndarray, int]:
    try:
        with _open(source) as file:
            rate = file.samplerate
            if file.frames > 1 << 62:
                raise UnusableError(
                    "audio-unreadable", f"{name}: its header doesn't tell its length (a stream); convert it again"
                )
            if duration_s is None:
                check_whole(file, source, name)
            start, count = _part(file.frames, rate, start_s, duration_s, name)
            if max_seconds is not None and count > int(max_seconds * rate):
                raise UnusableError(
                    "audio-too-long",
                    f"{name}: lasts {count / rate:.1f} s, expected at most {max_seconds:g} s; cut it up",
                )
            samples_SxC = _decode(file, start, count)
            if samples_SxC.shape[0] < count:
                _raise_short(source, name, samples_SxC.shape[0], count)
    except soundfile.LibsndfileError as error:
        raise UnusableError(
            "audio-unreadable", f"{name}: not a recording that can be read ({error}); convert it to WAV or FLAC"
        ) from None
    return usable_waveform(samples_SxC, name), rate


def _open(source: Path | bytes) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except TypeError as error:
        # soundfile takes the name *.raw for samples without a header, whose rate it would have to be told.
        raise UnusableError("audio-unreadable", f"{source}: no recording with a header ({error})") from None


def _part(frames: int, rate: int, start_s: float, duration_s: float | None, name: str) -> tuple[int, int]:
    """First sample and number of samples."""
    if start_s == 0 and duration_s is None:
        return 0, frames
    seconds = frames / rate
    if not 0 <= start_s < seconds:
        raise UnusableError(
            "audio-truncated",
            f"{name}: a part that begins at {start_s:g} s was asked for, the file lasts {seconds:.2f} s",
        )
    start = round(start_s * rate)
    if duration_s is None:
        return start, frames - start
    if not duration_s > 0:
        raise UnusableError("audio-too-short", f"{name}: a part of {duration_s:g} s was asked for, expected above 0")
    if start_s + duration_s > seconds + _TOLERANCE_S:
        end = f"{start_s + duration_s:g} s"
        raise UnusableError(
            "audio-truncated", f"{name}: a part that ends at {end} was asked for, the file lasts {seconds:.2f} s"
        )
    return start, min(round(duration_s * rate), frames - start)


def _decode(file: soundfile.SoundFile, start: int, count: int) -> np.ndarray:
    """Up to `count` frames from `start`, float32 [S, C]; fewer where the decoder fails or the file ends."""
    blocks = [np.zeros((0, file.channels), np.float32)]
    left = count
    with contextlib.suppress(soundfile.LibsndfileError):
        if start:
            file.seek(start)
        while left:
            block = file.read(frames=min(left, _BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                break
            blocks.append(block)
            left -= len(block)
    return np.concatenate(blocks)


def _raise_short(source: Path | bytes, name: str, found: int, expected: int) -> None:
    # The fault is in the middle where the last 50 ms can be read, and in Ogg, whose length stands in its last page. The
    # file is opened again: a decoder that failed is in no state to tell.
    with _open(source) as file:
        tail = min(file.frames, file.samplerate // 20)
        damaged = file.format == "OGG" or len(_decode(file, file.frames - tail, tail)) == tail
    fault, what = ("audio-unreadable", "damaged") if damaged else ("audio-truncated", "cut off")
    raise UnusableError(
        fault, f"{name}: {what}: {expected} samples announced, {found} could be read; copy or convert it again"
    )


def _clipped_share(samples_S: np.ndarray) -> float:
    """Share of the samples that stand at the highest or at the lowest value in runs of three or more."""
    held = np.zeros(len(samples_S), bool)
    for upward_S in (samples_S, -samples_S):
        limit = min(float(upward_S.max()), 1.0)
        if limit < _LOUD:
            continue
        at = upward_S >= limit - _PLATEAU
        three = at[:-2] & at[1:-1] & at[2:]
        for shift in range(3):
            held[shift : len(held) - 2 + shift] |= three
    return float(held.mean())
