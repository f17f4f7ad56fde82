"""One recording and its transcript → an aligned, trimmed waveform at the codec's rate, or the reason why not."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_pipelines.corpora.utterance import Utterance
from ellav_jax.errors import UnusableError
from ellav_jax.frontend.durations import frame_durations, trim_edges
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.resampling import resample

FindIntervals = Callable[[Utterance, np.ndarray, int], list[PhoneInterval]]


@dataclasses.dataclass(frozen=True)
class AlignmentJob:
    """What is the same for every utterance.

    dictionary: the frontend's dictionary file when it isn't the aligner's own. textgrids: the folder of TextGrids when
    the frontend's aligner is "textgrid". sample_rate (Hz) and hop (samples a frame) are the codec's. Recordings outside
    min_seconds … max_seconds are rejected.
    """

    frontend: Frontend
    dictionary: Path | None
    textgrids: Path | None
    sample_rate: int
    hop: int
    min_seconds: float
    max_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class AlignedUtterance:
    """An utterance whose edges are trimmed.

    wave_S: float32 [S] at the codec's rate. phones_N: uint16 ids. durations_N: int32, summing to ceil(S / hop).
    seconds: processor time that this took.
    """

    utterance: Utterance
    wave_S: np.ndarray
    phones_N: np.ndarray
    durations_N: np.ndarray
    seconds: float


@dataclasses.dataclass(frozen=True)
class RejectedUtterance:
    """An utterance that can't be used, and why: `fault` is a key of `FAULTS`, `detail` a sentence."""

    utterance: Utterance
    fault: str
    detail: str


def align_utterance(utterance: Utterance, job: AlignmentJob) -> AlignedUtterance | RejectedUtterance:
    """Reads, aligns, trims and resamples one recording; bad recordings and texts give a RejectedUtterance.

    Raises InputError when the aligner itself can't work (a dictionary that is missing).
    """
    if utterance.fault is not None:
        return RejectedUtterance(utterance, utterance.fault.kind, utterance.fault.detail)
    find_intervals = make_aligner(job)
    start = time.process_time()
    try:
        wave, rate = utterance.audio.read(job.max_seconds)
        if len(wave) < job.min_seconds * rate:
            raise UnusableError(
                "audio-too-short",
                f"{utterance.audio.name}: lasts {len(wave) / rate:.3f} s; expected at least {job.min_seconds:g} s",
            )
        intervals = find_intervals(utterance, wave, rate)
        wave, intervals = trim_edges(wave, rate, intervals, job.frontend)
        wave = resample(wave, rate, job.sample_rate)
        phones, durations_N = frame_durations(intervals, math.ceil(len(wave) / job.hop), job.frontend)
    except UnusableError as error:
        return RejectedUtterance(utterance, error.fault, str(error))
    ids = {phone: i for i, phone in enumerate(job.frontend.phones)}
    phones_N = np.array([ids[phone] for phone in phones], np.uint16)
    return AlignedUtterance(utterance, wave, phones_N, durations_N, time.process_time() - start)


@functools.cache
def make_aligner(job: AlignmentJob) -> FindIntervals:
    """What finds the phones of an utterance: TextGrids, or pocketsphinx with the frontend's own words.

    Made once a process. Raises InputError when it can't work: a folder or dictionary that is missing or another one.
    """
    if job.textgrids is not None:
        from data_pipelines.textgrid_folder import TextGridFolder
        from ellav_jax.frontend.textgrid import textgrid_intervals

        folder = TextGridFolder(job.textgrids)
        return lambda one, wave, rate: textgrid_intervals(folder.path(one), len(wave) / rate, job.frontend)
    from ellav_jax.frontend.alignment import Aligner
    from ellav_jax.frontend.analyzer import TextAnalyzer

    aligner = Aligner(job.frontend, TextAnalyzer(job.frontend, job.dictionary))
    return lambda one, wave, rate: aligner.align(wave, rate, one.text)
