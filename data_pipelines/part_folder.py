"""One of several parts of a data set, which machines with a shared folder make at the same time.

Part I of N makes the groups I - 1, I - 1 + N, I - 1 + 2 N, … in the work folder of the whole (work_folder.py). Locks there:
each part has one of its own; all parts at work share `lock`, which a whole `ellav prepare` wants for itself; `lock-entrance`
lets in one part at a time.
"""

import contextlib
import dataclasses
import fcntl
import filecmp
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.work_folder import (
    being_written,
    check_same_settings,
    claim,
    finished_groups,
    listing_path,
    make_work_folder,
    stored_settings,
)
from ellav_jax.errors import InputError
from ellav_jax.files import take_lock, try_lock

# A listing and the places of its groups.
_FILES = ("", ".groups")


@dataclasses.dataclass(frozen=True)
class Part:
    """The groups of which `number`, from 1, of `count` makes its share."""

    number: int
    count: int

    @classmethod
    def from_text(cls, text: str) -> "Part":
        """Reads "2/3". Raises InputError for anything else."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--part {text}: expected I/N, the I-th of N parts, as in 2/3")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, group: int) -> bool:
        """Whether this part makes the group."""
        return group % self.count == self.number - 1


class PartFolder:
    """The one process that makes a part, and the chunks that are finished in the work folder, by whomever.

    listing: where this part lists the corpus before `take`.
    """

    def __init__(self, out: Path, part: Part):
        """Takes the part over. Raises InputError when `out` is something else, or another process makes this part."""
        self.path, self._out = make_work_folder(out), out
        name = f"{part.number}-of-{part.count}"
        self.listing = self.path / f"listing-{name}.jsonl"
        self._locks = contextlib.ExitStack()
        taken = f"{out}: another process is making part {part}; wait for it or stop it"
        self._locks.enter_context(take_lock(self.path / f"lock-{name}", taken))

    def take(self, settings: Mapping[str, Any]) -> None:
        """Joins the others, whose settings these must be, with the same listing; where there are none yet, both become
        those of all. Raises InputError where they differ, and while a whole `ellav prepare` is writing."""
        with _entrance(self.path):
            lock = open(self.path / "lock", "a+b")  # noqa: SIM115 - held until close
            self._locks.enter_context(lock)
            if try_lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                # Nobody reads the listing, perhaps of recordings that lay elsewhere when the work began.
                claim(self.path, self._out, settings)
                for end in reversed(_FILES):
                    os.replace(f"{self.listing}{end}", f"{listing_path(self.path)}{end}")
            if not try_lock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB):
                raise InputError(being_written(self._out))
            check_same_settings(self._out, stored_settings(self.path), settings)
            for end in _FILES if self.listing.exists() else ():
                if not filecmp.cmp(f"{self.listing}{end}", f"{listing_path(self.path)}{end}", shallow=False):
                    raise InputError(
                        f"{self._out}: other parts at work read the recordings at other paths; give CORPUS to all as they "
                        "have it, or wait until they have ended"
                    )

    def finished(self) -> set[int]:
        """The groups whose chunks are there."""
        return finished_groups(self.path)

    def close(self) -> None:
        """Lets go of the part; what is done stays."""
        for end in _FILES:
            Path(f"{self.listing}{end}").unlink(missing_ok=True)
        self._locks.close()


@contextlib.contextmanager
def _entrance(path: Path) -> Iterator[None]:
    with open(path / "lock-entrance", "a+b") as file:
        try_lock(file, fcntl.LOCK_EX)
        yield
