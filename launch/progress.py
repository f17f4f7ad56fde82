"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

import rich.console
import rich.progress

# A line at least this often (s) where there is no terminal; sooner would fill a cluster's log.
LINE_EVERY = 10.0


class Progress:
    """Shows how much of `unit`s is done, on stderr; use it as a context manager."""

    def __init__(self, what: str, unit: str):
        self._what, self._unit = what, unit
        self._console = rich.console.Console(file=sys.stderr)
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            rich.progress.TimeRemainingColumn(),
        )
        self._bar = rich.progress.Progress(*columns, console=self._console) if self._console.is_terminal else None
        self._task = self._bar.add_task(what, total=None, note="") if self._bar else None
        self._last_line = -LINE_EVERY

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """Says that `done` of `total` (None: unknown) are done; `note` stands behind it."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif done == total or time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            of = "" if total is None else f"/{total}"
            print(f"{self._what}: {done}{of} {self._unit}s {note}".rstrip(), file=sys.stderr, flush=True)
