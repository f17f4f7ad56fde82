"""Stopwatches."""

import time
from collections.abc import Callable, Mapping


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def by_turns(work: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each call, A B A B, so that a machine that slows down slows all of them. What is called must leave nothing
    running on a device; NumPy arrays as results see to that."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, function in work.items():
            seconds[name].append(timed(function))
    return seconds
