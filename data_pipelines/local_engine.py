"""Groups on the processors of this machine: each worker takes a group, aligns, encodes and stores it.

On a CPU a worker does all of it on one thread, so n workers are n times one. Where there is an accelerator the workers
align, and this process, which holds the device, encodes.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from data_pipelines.align import align_utterance, make_aligner
from data_pipelines.group import GroupJob, align_group, make_chunk, store_group, use_one_thread
from data_pipelines.listing import Listing
from data_pipelines.merge import ShardKey, shards_of_chunks
from data_pipelines.records import ShardContents
from data_pipelines.work_folder import ChunkFacts, WorkFolder, listing_path
from ellav_jax.child_process import end_with_parent
from ellav_jax.errors import InputError, RunError

if TYPE_CHECKING:
    from ellav_jax.codec.codec import Codec

# More is not the fault of single recordings.
_MAX_CRASHES = 3
_WAY_ON = "what is done is kept: give the same command again with fewer workers"


class LocalEngine:
    """`workers` processes. They die with this process, however it ends.

    device_codec: encodes here, on this process's accelerator; without it each worker encodes on its own core. Raises
    InputError for less than one worker.
    """

    def __init__(self, workers: int, device_codec: "Codec | None" = None):
        if workers < 1:
            raise InputError(f"{workers} workers; expected at least 1")
        self._workers, self._device_codec = workers, device_codec
        self._crashes = 0

    def shards(self, work: WorkFolder, groups: int, keys: Sequence[ShardKey], shards: int) -> list[ShardContents]:
        """Writes the shards `keys` out of all chunks, in this process; returns their contents in the order of `keys`."""
        return shards_of_chunks(work, groups, keys, shards)

    def groups(self, job: GroupJob, groups: Sequence[int]) -> Iterator[ChunkFacts]:
        """Yields the facts of each group when its chunk is stored, in the order in which they are done.

        A worker that dies (a crash in the aligner's C code, no memory) is replaced; an utterance that kills a worker
        even when it is alone is rejected. Raises InputError when aligner or codec can't work (a dictionary that is
        missing), OSError when the disk is full, RunError when workers die before they have begun, or on
        `_MAX_CRASHES` utterances in a row.
        """
        self._job = job
        self._start()
        try:
            self._wait_until_ready()
            in_work: dict[Future, int] = {}
            rest = iter(groups)
            while True:
                # Two groups a worker: one in work, one to take next. Aligned groups that wait to be encoded hold their
                # waveforms (96 kB a second) in memory.
                while len(in_work) < 2 * self._workers and (group := next(rest, None)) is not None:
                    in_work[self._submit(group)] = group
                if not in_work:
                    return
                done, _ = wait(in_work, return_when=FIRST_COMPLETED)
                if any(_is_broken(future) for future in done):
                    # Waits for the end of the broken pool, so that every future is settled.
                    self._restart()
                    done = set(in_work)
                for future in done:
                    group, failed = in_work.pop(future), future.cancelled() or _is_broken(future)
                    yield self._store(group, self._without_crashing(group) if failed else future.result())
        except BaseException:
            # Nobody waits for groups in work: they are made again, whole.
            for process in self._processes:
                process.kill()
            raise
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _submit(self, group: int, crashing: Collection[str] = ()) -> Future:
        work = make_chunk if self._device_codec is None else align_group
        try:
            return self._pool.submit(work, self._job, group, crashing)
        except BrokenProcessPool as error:
            broken = Future()
            broken.set_exception(error)
            return broken

    def _without_crashing(self, group: int) -> object:
        """The group's result after a worker died, perhaps of another group, perhaps of an utterance of this one."""
        with contextlib.suppress(BrokenProcessPool):
            return self._submit(group).result()
        self._restart()
        crashing = set()
        for utterance in Listing(listing_path(self._job.work))[group]:
            try:
                self._pool.submit(_try, self._job, utterance).result()
                self._crashes = 0
            except BrokenProcessPool:
                self._restart()
                crashing.add(utterance.id)
                self._crashes += 1
                if self._crashes == _MAX_CRASHES:
                    raise RunError(
                        f"the aligner crashed on {self._crashes} utterances in a row, the last {utterance.audio.name}; "
                        f"what is done is kept: give the same command again when it works"
                    ) from None
        try:
            return self._submit(group, crashing).result()
        except BrokenProcessPool as error:
            raise RunError(
                f"a worker dies while it encodes group {group}, perhaps for lack of memory; {_WAY_ON}"
            ) from error

    def _store(self, group: int, result: "ChunkFacts | tuple") -> ChunkFacts:
        if self._device_codec is None:
            return result
        return store_group(self._job, group, *result, self._device_codec)

    def _start(self) -> None:
        context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
        self._pool = ProcessPoolExecutor(self._workers, context, initializer=_begin)
        # Processes begin with the first submissions: now, and not at the first group, because they inherit the blocked
        # Ctrl-C. It is for the parent to decide, and no worker prints a traceback of its own.
        with _interrupts_blocked():
            self._ready = [self._pool.submit(_warm_up, self._job) for _ in range(self._workers)]
        self._processes = [one for one in multiprocessing.active_children() if one not in others]

    def _restart(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        try:
            for ready in self._ready:
                ready.result()
        except BrokenProcessPool as error:
            raise RunError(
                f"the worker processes die before they have begun, perhaps for lack of memory; {_WAY_ON}"
            ) from error


def _is_broken(future: Future) -> bool:
    return future.done() and not future.cancelled() and isinstance(future.exception(), BrokenProcessPool)


def _try(job: GroupJob, utterance: object) -> None:
    align_utterance(utterance, job.alignment)


def _warm_up(job: GroupJob) -> None:
    make_aligner(job.alignment)


def _begin() -> None:
    use_one_thread()
    end_with_parent()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
