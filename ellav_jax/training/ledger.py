"""Where a run's time went: its wall time, split among a few kinds of work without a rest and without overlap."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SPANS = ("start", "compile", "data", "step", "evaluation", "checkpoint", "samples")
"""Kinds of work. start: making or restoring the state. compile: the first step, its compilation included. data: waiting
for a batch. step: calling the train step and waiting for its results. evaluation, checkpoint (what of it stops the
loop), samples: those."""
REST = "other"
"""What lies in no span."""


class Ledger:
    """Counts from its making on, in whole nanoseconds, so that the kinds sum to the wall time exactly. For one thread.

    A span inside a span stops the outer one's clock. clock: → nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns):
        self._clock = clock
        self._since = clock()
        self._nanoseconds = dict.fromkeys((*SPANS, REST), 0)
        self._current = REST

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Counts the time of the work inside for `name`, one of `SPANS`. Raises KeyError for another name."""
        if name not in self._nanoseconds:
            raise KeyError(f"{name!r} is no kind of work; expected one of {', '.join(SPANS)}")
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, name: str) -> str:
        now = self._clock()
        self._nanoseconds[self._current] += now - self._since
        self._since = now
        before, self._current = self._current, name
        return before

    def nanoseconds(self) -> dict[str, int]:
        """Time of each kind up to now, that of open spans included; the values sum to the wall time."""
        self._switch(self._current)
        return dict(self._nanoseconds)

    def entry(self) -> dict[str, float]:
        """Values for metrics.jsonl: `wall_seconds`, NAME_seconds of each kind, and `goodput`, the share of steps in it."""
        spent = self.nanoseconds()
        wall = sum(spent.values())
        return {
            "wall_seconds": wall / 1e9,
            **{f"{name}_seconds": value / 1e9 for name, value in spent.items()},
            "goodput": spent["step"] / max(wall, 1),
        }


def time_line(entry: dict[str, float]) -> str:
    """One line for people from `Ledger.entry`: the kinds by their shares, largest first; those below 0.05 % are left out."""
    wall = entry["wall_seconds"]
    spent = {name: entry[f"{name}_seconds"] for name in (*SPANS, REST)}
    parts = [
        f"{name} {_duration(seconds)} ({seconds / wall:.1%})"
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1])
        if seconds >= 0.0005 * wall > 0
    ]
    return f"time {_duration(wall)}  goodput {entry['goodput']:.1%}: " + ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{round(seconds) % 60:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m{round(seconds) % 60:02d}s"
