"""A folder of TextGrids: which file belongs to which utterance."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.corpora.utterance import Utterance
from ellav_jax.errors import InputError, UnusableError

SUFFIX = ".TextGrid"

_LONGEST_STEM = 150


class TextGridFolder:
    """Finds an utterance's TextGrid below `folder`: where its id says, where `ellav prepare --write-mfa` and MFA put it
    (SPEAKER/STEM), or anywhere under the last part of its id.

    Raises InputError when the folder is missing or has no TextGrid at all.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(f"{folder}: no such folder of TextGrids; give the output folder of the aligner")
        if next(_textgrids(self._folder), None) is None:
            raise InputError(f"{folder}: no {SUFFIX} file in it or below; give the output folder of the aligner")
        self._index: dict[str, list[Path]] | None = None

    def path(self, utterance: Utterance) -> Path:
        """The utterance's TextGrid. Raises UnusableError ("textgrid-missing") when there is none, or more than one."""
        own = self._folder / f"{utterance.id}{SUFFIX}"
        # An id such as "../x" must not lead out of the folder.
        inside = os.path.abspath(own).startswith(os.path.abspath(self._folder) + os.sep)
        candidates = [own] if inside else []
        candidates.append(self._folder / folder_name(utterance.speaker) / f"{file_stem(utterance.id)}{SUFFIX}")
        for path in candidates:
            # Path.is_file raises on a name that is too long for a file; this says no.
            if os.path.isfile(path):
                return path
        stem = utterance.id.rsplit("/", 1)[-1]
        found = self._by_stem().get(stem, [])
        if len(found) > 1:
            raise UnusableError(
                "textgrid-missing",
                f"{self._folder}: {len(found)} TextGrids are named {stem!r} ({found[0]}, {found[1]}); expected "
                f"{own.name!r} where the utterance's id says ({utterance.id})",
            )
        if not found:
            raise UnusableError(
                "textgrid-missing", f"{candidates[-1]}: no such file, nor {stem}{SUFFIX} elsewhere there"
            )
        return found[0]

    def stamp(self, utterance: Utterance) -> int | None:
        """Size in bytes of the utterance's TextGrid, None when there is none: changes when (nearly any) content does."""
        try:
            return self.path(utterance).stat().st_size
        except UnusableError:
            return None

    def _by_stem(self) -> dict[str, list[Path]]:
        if self._index is None:
            self._index = {}
            for path in _textgrids(self._folder):
                self._index.setdefault(path.stem, []).append(path)
        return self._index


def file_stem(utterance_id: str) -> str:
    """A file name for an utterance, without suffix, that no other utterance has: "p225/one" → "p225__one".

    Where signs are replaced or the name is cut, eight digits of the id's hash keep names apart.
    """
    name = utterance_id.replace("/", "__")
    plain = re.sub(r"[^\w.-]", "_", name)
    clear = plain == name and not re.search("__|_/|/_|//", utterance_id)
    if clear and len(name) <= _LONGEST_STEM and not name.startswith("."):
        return name
    return f"{plain[:_LONGEST_STEM].lstrip('.')}-{hashlib.sha256(utterance_id.encode()).hexdigest()[:8]}"


def folder_name(speaker: str) -> str:
    """A folder name for a speaker."""
    return file_stem(speaker) if speaker else "unknown"


def _textgrids(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(SUFFIX.lower()):
                yield Path(parent, name)
