"""The output of several processes as one log: whole lines, each behind the rank that said it, the first error on top."""

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, TextIO

TRACEBACK = "Traceback (most recent call last):"
ERROR = "ellav: error: "
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")


def read_lines(stream: BinaryIO) -> Iterator[str]:
    """Lines of a pipe as they come, without their ends; the last one need not have one.

    Of what was written over itself with carriage returns the last state stays, as on a terminal. Bytes that are no UTF-8
    are replaced.
    """
    rest = b""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield _last_state(line)
        if b"\r" in rest:
            # A progress bar without end stays short. A return at the end may be half of "\r\n".
            start = rest.rstrip(b"\r").rfind(b"\r") + 1
            rest = rest[start:]
    if rest:
        yield _last_state(rest)


def _last_state(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")


class RankLog:
    """Writes lines of ranks to `out` and `err`.

    A process that fails makes others fail. So an error is held back, from its first line on, until it is known whose was
    first; what else a rank says is written at once.
    """

    def __init__(self, out: TextIO, err: TextIO):
        self._out, self._err = out, err
        self._held: dict[int, list[str]] = {}
        self._told: set[str] = set()
        self._muted = False

    def out(self, rank: int, line: str) -> None:
        """A line of standard output."""
        self._write(self._out, rank, line)

    def err(self, rank: int, line: str) -> None:
        """A line of standard error."""
        if line.startswith((TRACEBACK, ERROR)):
            self.hold(rank)
        if rank in self._held:
            self._held[rank].append(line)
        else:
            self._error(rank, line)

    def hold(self, rank: int) -> None:
        """Holds back what a rank says on standard error from here on."""
        self._held.setdefault(rank, [])

    def holds(self, rank: int) -> bool:
        """Whether it does."""
        return rank in self._held

    def take_closing_line(self, rank: int) -> str | None:
        """Takes `ellav: error: …` out of what is held of a rank, where it is the last line. → what it says."""
        lines = self._held.get(rank)
        if not lines or not lines[-1].startswith(ERROR):
            return None
        line = lines.pop()
        self._told.add(line)
        return line.removeprefix(ERROR)

    def error_of_traceback(self, rank: int) -> str | None:
        """`ValueError: …` of the traceback that is held of a rank, None where there is none. Notes may stand behind it."""
        lines = self._held.get(rank, [])
        return next((line for line in reversed(lines) if _EXCEPTION.match(line)), None) if TRACEBACK in lines else None

    def release(self, rank: int) -> None:
        """Writes what is held of a rank, and holds no more."""
        for line in self._held.pop(rank, ()):
            self._error(rank, line)

    def mute(self) -> None:
        """From here on nothing is written, nor what is held."""
        self._muted = True

    def notice(self, line: str) -> None:
        """A line of the launcher's own."""
        print(f"ellav launch: {line}", file=self._err, flush=True)

    def _error(self, rank: int, line: str) -> None:
        # The same mistake is told once.
        if line not in self._told:
            self._write(self._err, rank, line)
        if line.startswith(ERROR):
            self._told.add(line)

    def _write(self, stream: TextIO, rank: int, line: str) -> None:
        if not self._muted:
            print(f"[{rank}] {line}".rstrip(), file=stream, flush=True)
