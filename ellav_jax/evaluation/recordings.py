"""The part of a recording that a data set holds: prepare trims silence off both ends."""

import numpy as np


def matching_part(recording_S: np.ndarray, decoded_S: np.ndarray) -> np.ndarray:
    """The part of a recording that codes were made of, found by where their decoding correlates with it most.

    Both float32, [S] and [D], at one rate. → [D]; zeros stand where the recording ends before (codes are rounded up to
    whole frames). Independent of the aligner, whose TextGrids may be elsewhere.
    """
    length = len(recording_S) + len(decoded_S)
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(recording_S, size) * np.conj(np.fft.rfft(decoded_S, size))
    # A shift of k: decoded sample i stands at sample i + k of the recording.
    correlation_K = np.fft.irfft(spectrum, size)[: max(len(recording_S) - len(decoded_S), 0) + 1]
    begin = int(np.argmax(correlation_K))
    part_S = recording_S[begin : begin + len(decoded_S)]
    return np.pad(part_S, (0, len(decoded_S) - len(part_S))).astype(np.float32)
