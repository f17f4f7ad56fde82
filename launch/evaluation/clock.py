"""Time of computing, compilation left out."""

import time

import jax

_COMPILING = "/jax/core/compile/"


class ComputingClock:
    """Between `start` and `read`: seconds on the wall less those in which JAX traced, lowered or compiled. A context."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._begin = 0.0

    def __enter__(self) -> "ComputingClock":
        jax.monitoring.register_event_time_span_listener(self._on_time_span)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_time_span_listener(self._on_time_span)

    def start(self) -> None:
        """Begins anew."""
        self._spans.clear()
        self._begin = time.perf_counter()

    def read(self) -> float:
        """Seconds since `start`."""
        return max(time.perf_counter() - self._begin - covered(self._spans), 0.0)

    def _on_time_span(self, event: str, start: float, end: float, **_: str | int) -> None:
        if event.startswith(_COMPILING):
            self._spans.append((start, end))


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans, which may lie in each other."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
