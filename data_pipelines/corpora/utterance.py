"""What every corpus yields."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_pipelines.audio import read_audio


class Audio(Protocol):
    """Where a recording is. Frozen, cheap to make and to pickle: nothing is read before `read`."""

    @property
    def name(self) -> str:
        """How messages name it: a path, with the part of the file where it isn't all of it."""

    def read(self, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
        """Waveform float32 [S] in [-1, 1] and its rate in Hz; raises UnusableError as `read_audio`."""

    def stamp(self) -> Any:
        """A JSON value that changes when the recording does, cheap to get (a size), and holds no path: moving a corpus
        must not change it. None where the recording is missing."""

    def to_json(self) -> dict[str, Any]:
        """The inverse of `audio_from_json`: its fields, and "kind"."""


@dataclasses.dataclass(frozen=True)
class AudioFile:
    """A sound file, or the part of one that begins at start_s and lasts duration_s (s; None: to its end)."""

    path: Path
    start_s: float = 0.0
    duration_s: float | None = None

    @property
    def name(self) -> str:
        if self.start_s == 0 and self.duration_s is None:
            return str(self.path)
        end = "end" if self.duration_s is None else f"{self.start_s + self.duration_s:g} s"
        return f"{self.path} ({self.start_s:g} s to {end})"

    def read(self, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
        return read_audio(self.path, max_seconds, self.start_s, self.duration_s)

    def stamp(self) -> Any:
        size = self.path.stat().st_size if os.path.isfile(self.path) else None
        return size if self.start_s == 0 and self.duration_s is None else [size, self.start_s, self.duration_s]

    def to_json(self) -> dict[str, Any]:
        # Workers of other machines have another working directory.
        fields = {"kind": "file", "path": str(self.path.absolute())}
        return fields | {
            name: value for name in ("start_s", "duration_s") if (value := getattr(self, name)) not in (0.0, None)
        }


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why an utterance can't be used, found while the corpus was listed; `kind` is a key of `FAULTS`."""

    kind: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it.

    `id` is stable and unique in its corpus (a second one of the same id is set aside): it decides the shard. `split` is a
    name such as "train" or "test". `fault` is set where the corpus itself shows that it can't be used (no transcript,
    not UTF-8): it is yielded all the same, so that found = written + quarantined; its text may then be empty.
    """

    id: str
    audio: Audio
    text: str
    speaker: str
    split: str
    fault: Fault | None = None


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Utterances, and the terms under which they may be used.

    `utterances` can be iterated more than once, gives the same order each time, and may be far too many for memory:
    readers make them as they go. Iterating raises InputError when the corpus as a whole is not what was expected.
    """

    name: str
    licence: str
    attribution: str
    utterances: Iterable[Utterance]
