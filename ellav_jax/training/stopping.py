"""When a run ends before its last step: Ctrl-C, or SIGTERM as schedulers send it before they take a machine away."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_after_step() -> Iterator[Callable[[int], bool]]:
    """Yields `stopping(step)`, to be asked before each step, by all processes: whether the run shall end ahead of it.

    One process: SIGINT and SIGTERM ask for it; a second one acts at once. Several: JAX's preemption service has them agree
    on the step, so that no collective waits for one that has left; SIGINT to any of them counts as SIGTERM. Signals reach
    Python's main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False
    elif jax.process_count() > 1:
        with _handling(signal.SIGINT, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            yield multihost_utils.reached_preemption_sync_point
    else:
        stop = threading.Event()
        with _handling(signal.SIGINT, stop.set), _handling(signal.SIGTERM, stop.set):
            yield lambda step: stop.is_set()


@contextlib.contextmanager
def _handling(number: signal.Signals, act: Callable[[], None]) -> Iterator[None]:
    """The first signal of this number acts; then and behind it the handler from before has it."""

    def handle(*_: object) -> None:
        act()
        signal.signal(number, before)

    before = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, before)
