"""Programs that stand in for gcloud, kubectl and others on PATH: they write down how they were called, and answer."""

import json
import os
import sys
from pathlib import Path

_PROGRAM = """#!{python} -IS
import json, os, sys
with open({calls!r}, "a") as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
{answer}
"""


def tool(name: str) -> Path:
    """A lint tool of the environment that the tests run in, which need not be on PATH."""
    return Path(sys.executable).with_name(name)


class StandIns:
    """A folder for PATH, and the calls of the programs in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._calls = folder / "calls.jsonl"
        folder.mkdir()

    def add(self, name: str, answer: str = "") -> None:
        """A program `name`; `answer` is Python, which finds the arguments in sys.argv."""
        program = self.folder / name
        python = os.path.realpath(sys.executable)
        program.write_text(_PROGRAM.format(python=python, calls=str(self._calls), name=name, answer=answer))
        program.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """In their order, the program's name first."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()] if self._calls.exists() else []
