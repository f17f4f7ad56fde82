"""Results that grow: JSON lines that survive a kill at any byte."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ellav_jax.errors import InputError


class JsonLines:
    """A file of JSON objects, one a line, in the order in which they were appended.

    A last line without its end, as a kill leaves it, is taken away when the file is opened. Raises InputError for a whole
    line that is no JSON object.
    """

    def __init__(self, path: Path):
        self._path = path
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with open(path, "r+b") as file:
                file.truncate(len(whole))
        self.entries = [self._parse(line, number) for number, line in enumerate(whole.splitlines(), start=1)]

    def __len__(self) -> int:
        return len(self.entries)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a line and flushes it to the disk."""
        with open(self._path, "ab") as file:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(dict(entry))

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise InputError(f"{self._path}, line {number}: not a JSON object; remove the file to have it made anew")
        return entry
