"""Processes of a run, as threads of one: what they do before jax starts needs no process of their own."""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from launch.processes.meeting import Meeting, Place, meet


def free_address() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def gather(
    act: Callable[[Meeting], Any], count: int, coming: Sequence[int] | None = None, timeout: float = 10
) -> list[Any]:
    """What `act` returned or raised in each process of `coming` (default: all `count`)."""
    address = free_address()

    def run(process: int) -> Any:
        with meet(Place(address, count, process), timeout) as meeting:
            return act(meeting)

    coming = range(count) if coming is None else coming
    with ThreadPoolExecutor(len(coming)) as threads:
        return list(threads.map(lambda process: outcome(run, process), coming))
