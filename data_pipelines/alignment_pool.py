"""Recordings to aligned 24 kHz waveforms, in processes beside the one that encodes.

Alignment is C code on one thread, encoding is XLA: processes let them run at the same time.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from data_pipelines.audio import read_audio
from data_pipelines.corpora.utterance import Utterance
from ellav_jax.errors import InputError
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.durations import frame_durations, trim_edges
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.resampling import resample

# Utterances aligned ahead of the one asked for: enough to keep the workers busy while a batch is encoded, few enough
# that their waveforms (96 kB a second) stay below some hundred MB.
_AHEAD = 128
# More is not the fault of single recordings.
_MAX_CRASHES = 3


@dataclasses.dataclass(frozen=True)
class AlignmentJob:
    """What is the same for every utterance.

    dictionary: the frontend's dictionary file when it isn't the aligner's own. sample_rate (Hz) and hop (samples a
    frame) are the codec's. Recordings longer than max_seconds are rejected.
    """

    frontend: Frontend
    dictionary: Path | None
    sample_rate: int
    hop: int
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
    """An utterance that can't be used, and why."""

    utterance: Utterance
    reason: str


class AlignmentPool:
    """`workers` processes that align. They die with this process, however it ends."""

    def __init__(self, job: AlignmentJob, workers: int):
        self._job, self._workers = job, workers
        self._pool, self._ready = self._start()

    def align(self, utterances: Sequence[Utterance]) -> Iterator[AlignedUtterance | RejectedUtterance]:
        """Yields the result of each utterance, in order, while up to `_AHEAD` later ones are being aligned.

        A worker that dies (a crash in the aligner's C code, no memory) is replaced; an utterance that kills a worker
        even when it is alone is rejected. Raises InputError when the aligner itself can't work (a dictionary that is
        missing), RuntimeError when workers die before they have begun, or on `_MAX_CRASHES` utterances in a row.
        """
        waiting: deque[tuple[Utterance, Future]] = deque()
        rest, crashes = iter(utterances), 0
        self._wait_until_ready()
        while True:
            for utterance in itertools.islice(rest, _AHEAD - len(waiting)):
                waiting.append((utterance, self._submit(utterance)))
            if not waiting:
                return
            utterance, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                self._restart()
                result = self._align_alone(utterance)
                crashes = 0 if result else crashes + 1
                if crashes == _MAX_CRASHES:
                    raise RuntimeError(
                        f"the aligner crashed on {crashes} utterances in a row, the last {utterance.audio}; what is "
                        f"done is kept: give the same command again when it works"
                    ) from None
                waiting = deque((one, future if _succeeded(future) else self._submit(one)) for one, future in waiting)
            yield result or RejectedUtterance(utterance, f"{utterance.audio}: the aligner crashes on it")

    def close(self) -> None:
        """Ends the workers; what they have not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, utterance: Utterance) -> Future:
        try:
            return self._pool.submit(align_utterance, utterance, self._job)
        except BrokenProcessPool as error:
            broken = Future()
            broken.set_exception(error)
            return broken

    def _align_alone(self, utterance: Utterance) -> AlignedUtterance | RejectedUtterance | None:
        """None when the worker dies of it."""
        try:
            return self._pool.submit(align_utterance, utterance, self._job).result()
        except BrokenProcessPool:
            self._restart()
            return None

    def _start(self) -> tuple[ProcessPoolExecutor, list[Future]]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._workers, context, initializer=_die_with_parent)
        # Processes begin with the first submissions: now, and not at the first utterance, because they inherit the
        # blocked Ctrl-C. It is for the parent to decide, and no worker prints a traceback of its own.
        with _interrupts_blocked():
            return pool, [pool.submit(_warm_up, self._job) for _ in range(self._workers)]

    def _restart(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._pool, self._ready = self._start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        try:
            for ready in self._ready:
                ready.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "the alignment processes die before they have begun, perhaps for lack of memory; what is done is "
                "kept: give the same command again with fewer workers"
            ) from error


def align_utterance(utterance: Utterance, job: AlignmentJob) -> AlignedUtterance | RejectedUtterance:
    """Reads, aligns, trims and resamples one recording; bad recordings and texts give a RejectedUtterance."""
    aligner = _make_aligner(job.frontend, job.dictionary)
    start = time.process_time()
    try:
        wave, rate = read_audio(utterance.audio, job.max_seconds)
        intervals = aligner.align(wave, rate, utterance.text)
        wave, intervals = trim_edges(wave, rate, intervals, job.frontend)
        wave = resample(wave, rate, job.sample_rate)
        phones, durations_N = frame_durations(intervals, math.ceil(len(wave) / job.hop), job.frontend)
    except InputError as error:
        return RejectedUtterance(utterance, str(error))
    ids = {phone: i for i, phone in enumerate(job.frontend.phones)}
    phones_N = np.array([ids[phone] for phone in phones], np.uint16)
    return AlignedUtterance(utterance, wave, phones_N, durations_N, time.process_time() - start)


@functools.cache
def _make_aligner(frontend: Frontend, dictionary: Path | None) -> Aligner:
    return Aligner(frontend, TextAnalyzer(frontend, dictionary))


def _succeeded(future: Future) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _warm_up(job: AlignmentJob) -> None:
    _make_aligner(job.frontend, job.dictionary)


def _die_with_parent() -> None:
    # A worker waiting for work doesn't notice that its parent was killed: it would wait for ever.
    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
