"""Whether a sound file is all there, where libsndfile alone would give a shorter recording without an error.

FLAC, and MP3 with a count of its frames, need nothing of this: their decoders announce a length and then fall short.
"""

import re
import zlib
from pathlib import Path

import soundfile

from ellav_jax.errors import UnusableError

_BEGIN_OF_STREAM, _END_OF_STREAM = 2, 4
"""Flags of an Ogg page."""
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_MP3_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of layer III by their index, for MPEG 1 (True), and for MPEG 2 and 2.5."""
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sampling rates by the version bits: MPEG 1, 2 and 2.5."""


def check_whole(file: soundfile.SoundFile, source: Path | bytes, name: str) -> None:
    """Raises UnusableError when something of `file`, which was opened from `source`, is missing; `name` is for messages.

    WAV and AIFF: the bytes announced are there. Ogg: all pages are there and as they were written, and the last is
    marked as the end of its stream. MP3 without a count of its frames: the last frame is whole, and libsndfile's guess
    of the length is right; one that was cut between two frames can't be told from a whole one.
    """
    if file.format not in ("OGG", "MP3"):
        _check_announced_bytes(file.extra_info, name)
        return
    data = source if isinstance(source, bytes) else source.read_bytes()
    if file.format == "OGG":
        _check_ogg(data, name)
    else:
        _check_mp3(data, file.frames, name)


def _check_announced_bytes(parser_log: str, name: str) -> None:
    # libsndfile shortens a WAV or AIFF that was cut off without an error, and says so only in its log. Streamed files
    # announce a length near 2 or 4 GiB because it wasn't known: those are whole.
    cut = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", parser_log)
    if cut and int(cut[2]) < int(cut[1]) < 0x7FFFFF00:
        raise UnusableError(
            "audio-truncated", f"{name}: cut off: {cut[1]} bytes of sound announced, {cut[2]} are there; copy it again"
        )


def _check_ogg(data: bytes, name: str) -> None:
    start, flags, following = 0, 0, {}
    while data[start : start + 4] == b"OggS":
        header = data[start : start + 27]
        body = start + 27 + header[-1] if len(header) == 27 else len(data) + 1
        end = body + sum(data[start + 27 : body])
        if end > len(data):
            raise UnusableError("audio-truncated", f"{name}: cut off: its last Ogg page is not whole; copy it again")
        flags, stream, number = data[start + 5], data[start + 14 : start + 18], _little(data, start + 18)
        # A checksum is taken with zeros in its own place.
        page = data[start : start + 22] + bytes(4) + data[start + 26 : end]
        expected = number if flags & _BEGIN_OF_STREAM else following.get(stream, number)
        if _ogg_checksum(page) != _little(data, start + 22) or number != expected:
            raise UnusableError(
                "audio-unreadable",
                f"{name}: damaged: the Ogg page at byte {start} is not as it was written; copy it again",
            )
        following[stream] = number + 1
        start = end
    if flags & _END_OF_STREAM:  # what stands behind it is a tag, or zeros
        return
    if start < len(data):
        raise UnusableError(
            "audio-unreadable", f"{name}: damaged: no Ogg page begins at byte {start}, where one should; copy it again"
        )
    raise UnusableError(
        "audio-truncated",
        f"{name}: cut off: its last Ogg page is not marked as the end of the stream; copy it again "
        "(a stream recorded live lacks the mark too: convert that to FLAC)",
    )


def _ogg_checksum(page: bytes) -> int:
    # Ogg's CRC-32 has zlib's polynomial, but takes the highest bit first, begins at 0, and isn't inverted at the end.
    value = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_MIRRORED), "big")


def _little(data: bytes, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "little")


def _check_mp3(data: bytes, frames: int, name: str) -> None:
    start = 0
    if data[:3] == b"ID3":
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    first = _mp3_frame(data, start)
    if first is None or any(mark in data[start : start + first[0]] for mark in (b"Xing", b"Info", b"VBRI")):
        return
    samples = 0
    while (frame := _mp3_frame(data, start)) is not None:
        start, samples = start + frame[0], samples + frame[1]
    if start > len(data):
        raise UnusableError("audio-truncated", f"{name}: cut off inside its last MP3 frame; copy it again")
    if abs(samples - frames) > 2 * first[1]:
        raise UnusableError(
            "audio-unreadable",
            f"{name}: an MP3 of variable bit rate without a header that counts its frames: {samples} samples are there, "
            f"only {frames} would be read; convert it to FLAC",
        )


def _mp3_frame(data: bytes, start: int) -> tuple[int, int] | None:
    """Bytes and samples of the layer III frame that begins at `start`; None where there is none of known length."""
    header = data[start : start + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, kbits_index, rate_index = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version not in _MP3_RATES or kbits_index in (0, 15) or rate_index == 3:
        return None
    samples = 1152 if version == 3 else 576
    kbits, padding = _MP3_KBITS[version == 3][kbits_index], header[2] >> 1 & 1
    return samples * kbits * 125 // _MP3_RATES[version][rate_index] + padding, samples
