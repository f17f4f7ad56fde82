"""Watching the processes of one job: one log, one end, and who failed first."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from types import FrameType

from launch.processes.local_processes import STOP_SECONDS, Asked, Ended, Line, LocalProcesses, Silent
from launch.processes.rank_log import RankLog

FAILURE_SECONDS = 10.0
"""How long the others have when one has ended and the job can't go on."""
INTERRUPTED = 130
_HOLD_SECONDS = 3.0
"""How long an error is held back: a process that lives on behind it only told about one."""
_AGAIN_SECONDS = 1.0
"""Signals that come so soon behind the first are the same one, from a supervisor that tells processes one by one."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """The process that failed first. status: as `subprocess` has it. refused: what it said behind `ellav: error: ` at its
    end; else last: the error at the end of its traceback; None for none."""

    rank: int
    status: int
    refused: str | None
    last: str | None

    @property
    def exit_status(self) -> int:
        """As a shell has it."""
        return self.status if self.status > 0 else 128 - self.status

    @property
    def how(self) -> str:
        """ "rank 1 ended with status 3", "rank 1 was killed by signal 9 (SIGKILL)"."""
        if self.status > 0:
            return f"rank {self.rank} ended with status {self.status}"
        return f"rank {self.rank} was killed by signal {-self.status} ({signal.Signals(-self.status).name})"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended: well where there is neither a failure nor an interruption."""

    failure: Failure | None
    interrupted: bool


class Watch:
    """Writes what processes say into a log until all have ended.

    When one fails the others are asked to end, and killed FAILURE_SECONDS later. SIGINT and SIGTERM to this process are
    told to each of them, as SIGTERM and once; they have STOP_SECONDS for it, and a second signal kills them.
    """

    def __init__(self, processes: LocalProcesses, log: RankLog):
        self._processes, self._log = processes, log
        self._failed: Ended | None = None
        self._failure: Failure | None = None
        self._statuses: dict[int, int] = {}
        self._asked_at: float | None = None
        self._kill_at = float("inf")
        self._held_since: dict[int, float] = {}

    def to_end(self) -> Outcome:
        """Watches."""
        silent: set[int] = set()
        with self._signals_told():
            while len(silent) < len(self._processes):
                event = self._processes.next_event(min(0.5, self._kill_at - time.monotonic()))
                if isinstance(event, Line):
                    self._say(event)
                elif isinstance(event, Ended):
                    self._end(event)
                elif isinstance(event, Silent):
                    silent.add(event.rank)
                    self._silence(event.rank)
                elif isinstance(event, Asked):
                    name = signal.Signals(event.number).name
                    self._log.notice(f"{name}: every rank was asked for a checkpoint and its end; once more kills them")
                self._look_at_the_clock()
        stopped = self._asked_at is not None or INTERRUPTED in self._statuses.values()
        return Outcome(self._failure, stopped and any(self._statuses.values()))

    @contextlib.contextmanager
    def _signals_told(self) -> Iterator[None]:
        # What the shell wants ignored stays ignored.
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._tell) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        # In the handler itself: the loop may be writing to a terminal that takes no more.
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._kill_at = min(self._kill_at, now + STOP_SECONDS)
            self._processes.ask_to_end()
            self._processes.events.put(Asked(number))
        elif now > self._asked_at + _AGAIN_SECONDS:
            self._processes.kill()

    def _say(self, line: Line) -> None:
        if not line.error:
            self._log.out(line.rank, line.text)
            return
        self._log.err(line.rank, line.text)
        if self._log.holds(line.rank):
            self._held_since.setdefault(line.rank, time.monotonic())

    def _end(self, event: Ended) -> None:
        self._statuses[event.rank] = event.status
        if event.status == 0:
            return
        self._kill_at = min(self._kill_at, time.monotonic() + FAILURE_SECONDS)
        if event.status == INTERRUPTED:
            return
        if self._failed is None and not self._is_consequence(event):
            self._failed = event
            # What the others say on standard error from now on is a consequence. First what this one has to say.
            for rank in range(len(self._processes)):
                self._log.hold(rank)
        self._processes.ask_to_end()

    def _is_consequence(self, event: Ended) -> bool:
        """Of a signal from here, or of others having left in order."""
        asked = event.rank in self._processes.asked and event.status == -signal.SIGTERM
        killed = self._processes.killed and event.status == -signal.SIGKILL
        return asked or killed or INTERRUPTED in self._statuses.values()

    def _silence(self, rank: int) -> None:
        if self._failed is None or self._failure is not None:
            self._release(rank)
        elif rank == self._failed.rank:
            refused = self._log.take_closing_line(rank)
            last = None if refused else self._log.error_of_traceback(rank)
            self._failure = Failure(rank, self._failed.status, refused, last)
            if self._failure.status == 2 and refused:
                # Bad input is the same to all of them, and told once, by who started them.
                self._log.mute()
                return
            self._release(rank)
            self._log.notice(f"{self._failure.how}; stopping the others")
            for other in range(len(self._processes)):
                self._release(other)

    def _release(self, rank: int) -> None:
        self._log.release(rank)
        self._held_since.pop(rank, None)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if now >= self._kill_at:
            self._kill_at = float("inf")
            self._processes.kill()
        if self._failed is None:
            for rank in [rank for rank, since in self._held_since.items() if now > since + _HOLD_SECONDS]:
                self._release(rank)
