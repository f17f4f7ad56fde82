"""Processes of one job on this machine: started, listened to, ended together. Imports nothing that takes its time."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import BinaryIO

from launch.processes.rank_log import read_lines

STOP_SECONDS = 300.0
"""How long processes that were asked to stop have for their checkpoint."""
_DRAIN_SECONDS = 2.0
"""How long is waited for the end of a dead process's output, which a process that it left behind may keep open."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line that a process said, on standard error or output."""

    rank: int
    text: str
    error: bool


@dataclasses.dataclass(frozen=True)
class Ended:
    """status: as `subprocess` has it, minus the signal's number where one killed it. Lines of it may still come."""

    rank: int
    status: int


@dataclasses.dataclass(frozen=True)
class Silent:
    """All that an ended process had said has come."""

    rank: int


@dataclasses.dataclass(frozen=True)
class Asked:
    """This process got a signal: the job shall stop."""

    number: int


Event = Line | Ended | Silent | Asked


class LocalProcesses:
    """Processes in sessions of their own, so that Ctrl-C at the terminal reaches the launcher alone, which tells them.

    They wait for a line on their standard input, which ends when the launcher does, however it does. As a context manager
    it leaves none behind.
    """

    def __init__(self, commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]):
        # A queue that a signal handler may put into.
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.killed = False
        self.asked: set[int] = set()
        self._processes: list[subprocess.Popen] = []
        self._begun = False
        try:
            for command, environment in zip(commands, environments, strict=True):
                self._start(command, environment)
        except BaseException:
            self.kill()
            raise

    def __len__(self) -> int:
        return len(self._processes)

    def __enter__(self) -> "LocalProcesses":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._begun:  # what has not begun has nothing to save
                self.ask_to_end()
                until = time.monotonic() + STOP_SECONDS
                with contextlib.suppress(subprocess.TimeoutExpired):
                    for process in self._processes:
                        process.wait(max(0.0, until - time.monotonic()))
        finally:
            self.kill()

    def begin(self, word: str = "") -> None:
        """Lets them begin, and tells them a word."""
        self._begun = True
        for process in self._processes:
            # One that is dead already will be found so.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{word}\n".encode())
                process.stdin.flush()

    def next_event(self, seconds: float) -> Event | None:
        """What comes next, None where nothing does for so long."""
        with contextlib.suppress(Empty):
            return self.events.get(timeout=max(0.0, seconds))
        return None

    def ask_to_end(self) -> None:
        """SIGTERM to each that is alive, once whatever happens."""
        for rank, process in enumerate(self._processes):
            if rank not in self.asked and process.returncode is None:
                self.asked.add(rank)
                process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to those that are alive, and what they started."""
        for process in self._processes:
            if process.returncode is None:
                self.killed = True
                _kill_group(process)

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        rank = len(self._processes)
        self._processes.append(process)
        streams = [(process.stdout, False), (process.stderr, True)]
        readers = [threading.Thread(target=self._read, args=(rank, *stream), daemon=True) for stream in streams]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._wait, args=(rank, process, readers), daemon=True).start()

    def _read(self, rank: int, stream: BinaryIO, error: bool) -> None:
        for line in read_lines(stream):
            self.events.put(Line(rank, line, error))

    def _wait(self, rank: int, process: subprocess.Popen, readers: Sequence[threading.Thread]) -> None:
        status = process.wait()
        self.events.put(Ended(rank, status))
        if status < 0:
            # A killed process leaves its own children (a data loader's), who hold its output open.
            _kill_group(process)
        until = time.monotonic() + _DRAIN_SECONDS
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
        self.events.put(Silent(rank))


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def free_address() -> str:
    """HOST:PORT of this machine's own network that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
