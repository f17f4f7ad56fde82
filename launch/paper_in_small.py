"""`ellav paper-in-small OUT`: ELLA-V, VALL-E's AR and the ablations, trained alike on the bundled speech and evaluated."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ellav_jax.errors import InputError, RunError
from ellav_jax.evaluation.figures import require_matplotlib
from ellav_jax.files import read_json, take_lock, write_json
from launch.assemble import say
from launch.marked_document import around
from launch.paper_in_small_document import write_document

SYSTEMS = {
    "gar": "nar",
    "paper_layout": "nar",
    "valle": "nar",
    "no_global_advance": "nar",
    "local_advance_3": "nar_local_advance_3",
    "local_advance_6": "nar_local_advance_6",
}
"""Experiments of configs/prompts_small.py, and the NAR that each speaks with: one of the same local advance."""
NARS = {"nar": 0, "nar_local_advance_3": 3, "nar_local_advance_6": 6}
"""Local advance of each."""
HARD = ("gar", "valle")
"""Systems that speak the hard sentences: the paper's claim is about these two."""
TOP_P = (0.5, 0.8, 1.0)
SECONDS = "paper_in_small.json"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Prepares the bundled speech, trains each system with the same steps, and lets each speak the held-out clips, greedily
    and at three values of top-p, and two of them the hard sentences. Writes OUT/paper_in_small.md with a figure.

    Every part is an `ellav` command that is printed before it runs; stopped at any moment, the same command continues.
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder of everything: new, or one to continue."""
    recognizers: tuple[str, ...] = ("pocketsphinx",)
    """As for `ellav evaluate`: pocketsphinx, faster-whisper:MODEL."""
    systems: tuple[str, ...] = tuple(SYSTEMS)
    """Which of the systems."""
    gar_steps: int | None = None
    nar_steps: int | None = None
    """Training steps; by default those of configs/prompts_small.py."""
    limit: int | None = None
    """Only the first so many utterances and sentences."""
    document: Annotated[Path | None, tyro.conf.arg(metavar="FILE.md")] = None
    """Writes the tables here, between the lines `<!-- tables -->` and `<!-- end of tables -->`, and the figure beside it."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command. Raises InputError for bad input, RunError when one of the parts fails."""
    chosen = tyro.cli(Arguments, args=arguments, prog="ellav paper-in-small")
    if unknown := [name for name in chosen.systems if name not in SYSTEMS]:
        raise InputError(f"--systems {' '.join(unknown)}: unknown; there are {', '.join(SYSTEMS)}")
    if not chosen.systems or len(set(chosen.systems)) < len(chosen.systems):
        raise InputError("--systems: expected each system once, and at least one")
    document = chosen.document or chosen.out / "paper_in_small.md"
    if chosen.document is not None and not chosen.document.is_file():
        raise InputError(f"{chosen.document}: no such file; it is to have the lines between which tables are written")
    if document.exists():
        around(document)
    require_matplotlib()  # now rather than when all is trained
    seconds = _Seconds(chosen.out)
    parts = make_parts(chosen)
    with take_lock(chosen.out / ".lock", f"{chosen.out}: another `ellav paper-in-small` is at work in it"):
        for name, command in parts.items():
            _run(name, command, seconds)
        write_document(document, chosen.out, chosen.systems, {name: seconds.of.get(name) for name in parts})
    say(f"{document}: tables and figure written")


def make_parts(chosen: Arguments) -> dict[str, list[str]]:
    """The arguments of each part's `ellav` command, in their order."""
    out, data = chosen.out, str(chosen.out / "data")
    parts = {"data": ["prepare", "bundled", data]}
    steps = {
        "gar": [] if chosen.gar_steps is None else ["--train.steps", str(chosen.gar_steps)],
        "nar": [] if chosen.nar_steps is None else ["--train.steps", str(chosen.nar_steps)],
    }
    for name in chosen.systems:
        parts[name] = ["train", f"prompts_small.{name}", "--data", data, "--workdir", str(out / name), *steps["gar"]]
    for name in dict.fromkeys(SYSTEMS[one] for one in chosen.systems):
        advance = ["--layout.local-advance", str(NARS[name])] if NARS[name] else []
        train = ["train", "prompts_small.nar", "--data", data, "--workdir", str(out / name)]
        parts[name] = [*train, *advance, *steps["nar"]]
    held_out = ["--data", data, "--protocol", "cross-sentence", "--shortest", "0"]
    judged = ["--recognizers", *chosen.recognizers]
    if chosen.limit is not None:
        judged += ["--limit", str(chosen.limit)]
    speaking = _models(out, chosen.systems)
    parts["greedy"] = ["evaluate", *speaking, *held_out, "--temperature", "0", "--out", str(out / "greedy"), *judged]
    sweep = ["--sweep", f"top_p={','.join(map(str, TOP_P))}", "--temperature", "1"]
    # Of the sweep alone words and endings are shown.
    quick = ["--speaker", "none", "--quality", "none", "--phones", "none"]
    parts["sampled"] = ["evaluate", *speaking, *held_out, *sweep, "--out", str(out / "sampled"), *judged, *quick]
    if hard := [name for name in chosen.systems if name in HARD]:
        sentences = ["--sentences", "hard", "--prompts", "bundled", "--temperature", "0"]
        parts["hard"] = ["evaluate", *_models(out, hard), *sentences, "--out", str(out / "hard"), *judged, *quick]
    return parts


def _models(out: Path, systems: Sequence[str]) -> list[str]:
    return [word for name in systems for word in ("--gar", str(out / name), "--nar", str(out / SYSTEMS[name]))]


class _Seconds:
    """OUT/paper_in_small.json: seconds that each part took, all its starts together. Raises InputError when
    OUT is something else."""

    def __init__(self, out: Path):
        self._path = out / SECONDS
        self.of: dict[str, float] = {}
        if self._path.exists():
            self.of = read_json(self._path, "times of a paper in small")
            if not isinstance(self.of, dict):
                raise InputError(f"{self._path}: not the times of a paper in small; choose another folder")
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: in the way; expected a new folder, or one of ellav paper-in-small to continue")
        else:
            out.mkdir(parents=True, exist_ok=True)
            self._save()

    def add(self, part: str, seconds: float) -> None:
        """Adds to the part's time."""
        self.of[part] = self.of.get(part, 0) + seconds
        self._save()

    def _save(self) -> None:
        write_json(self._path, self.of)


def _run(name: str, command: Sequence[str], seconds: _Seconds) -> None:
    """Runs a part in a process of its own, as a user would: the figures are those of the printed command."""
    say(f"\n$ ellav {' '.join(command)}")
    start = time.monotonic()
    try:
        status = subprocess.run([sys.executable, "-m", "launch.cli", *command]).returncode
    finally:
        seconds.add(name, time.monotonic() - start)
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise RunError(f"{name}: ellav {command[0]} ended with status {status}; its error is above")
