"""Ends a run that hangs (a lost process, a dead file system), and says where each thread stood."""

import contextlib
import faulthandler
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[Callable[[], None]]:
    """Yields `feed`, to be called before each step. `seconds` without it: all stacks on stderr, exit status 1.

    It works while Python itself is stuck in C code: the clock is a thread of the interpreter's own. 0 is no watchdog.
    """

    def feed() -> None:
        if seconds:
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)

    try:
        yield feed
    finally:
        faulthandler.cancel_dump_traceback_later()
