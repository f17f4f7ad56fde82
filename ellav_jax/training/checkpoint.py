"""Checkpoints of a run, by Orbax: the state's arrays, the data's position, and the card that says what the run is."""

import contextlib
import json
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from ellav_jax.errors import InputError
from ellav_jax.models.definition import Params
from ellav_jax.training.step import TrainState

Card = dict[str, Any]
"""JSON: `experiment` (all fields), `frontend` (frontend.json), `codec` (name, sha256). Every checkpoint carries it."""


class DataPosition:
    """Global index of the next row, as one file that process 0 writes (an Orbax `StatefulCheckpointable`)."""

    def __init__(self, next_row: int = 0):
        self.next_row = next_row

    async def save(self, directory: ocp.path.PathAwaitingCreation) -> Awaitable[None]:
        """Writes `state.json`; the position is taken now, the writing is Orbax's to await."""
        text = json.dumps({"next_row": self.next_row})

        async def write() -> None:
            path = await directory.await_creation()
            if jax.process_index() == 0:
                (path / "state.json").write_text(text)

        return write()

    async def load(self, directory: epath.Path) -> Awaitable[None]:
        """Reads what `save` wrote, whatever the number of processes then and now."""

        async def read() -> None:
            self.next_row = json.loads((directory / "state.json").read_text())["next_row"]

        return read()


class DamagedCheckpoint(InputError):
    """A checkpoint that can't be read, whatever is asked of it."""


class Checkpoints:
    """Checkpoints `directory`/STEP; the latest `keep` stay, and those of every `keep_every` steps (0: none of them).

    `say` gets lines for people.
    """

    def __init__(
        self, directory: Path, *, every: int, keep: int, keep_every: int, card: Card, say: Callable[[str], None]
    ):
        policies = ocp.training.preservation_policies
        self._directory, self._every, self._card, self._say = directory.absolute(), every, card, say
        kept = [policies.LatestN(keep), *([policies.EveryNSteps(keep_every)] if keep_every else [])]
        self._preservation = policies.AnyPreservationPolicy(kept)
        self._checkpointer = self._open()

    def _open(self) -> ocp.training.Checkpointer:
        with _quiet():
            return ocp.training.Checkpointer(
                self._directory,
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(self._every),
                preservation_policy=self._preservation,
                cleanup_tmp_directories=True,
            )

    def save(self, step: int, state: TrainState, next_row: int, *, force: bool = False) -> None:
        """Saves in the background if `step` is one to save, or if forced. Call it before the next batch is drawn."""
        if not force and step % self._every:
            return
        if (latest := self._checkpointer.latest) and latest.step == step:
            return
        self._checkpointer.save_checkpointables_async(
            step, _parts(state) | {"data": DataPosition(next_row)}, force=True, custom_metadata=self._card
        )

    def restore(self, abstract: TrainState) -> tuple[TrainState, int] | None:
        """The latest state that can be read, laid out as `abstract` says, and the next row's index; None where there is no
        checkpoint.

        Damaged ones behind it are told of and set aside as STEP.damaged. Raises InputError when weights don't fit, or
        when there are checkpoints and none can be read: then nothing is touched.
        """
        damaged: list[tuple[Path, DamagedCheckpoint]] = []
        for step in sorted((checkpoint.step for checkpoint in self._checkpointer.checkpoints), reverse=True):
            path = self._directory / str(step)
            try:
                restored = self._load(path, step, abstract)
            except DamagedCheckpoint as error:
                damaged.append((path, error))
                continue
            self._set_aside(damaged)
            return restored
        if damaged:
            raise damaged[0][1]
        return None

    def _load(self, path: Path, step: int, abstract: TrainState) -> tuple[TrainState, int]:
        position = DataPosition()
        parts = _parts(abstract)
        _check_fit(path, {"ema": {}} | parts)
        try:
            loaded = self._checkpointer.load_checkpointables(step, parts | {"data": position})
        except Exception as error:  # Orbax raises many kinds for a damaged folder; all mean the same to the user
            raise DamagedCheckpoint(f"{path}: cannot be restored ({type(error).__name__}: {error})") from error
        state = {"params": loaded["params"], **loaded["optimizer"]}
        return state | ({"ema": loaded["ema"]} if "ema" in loaded else {}), position.next_row

    def _set_aside(self, damaged: Sequence[tuple[Path, DamagedCheckpoint]]) -> None:
        if not damaged:
            return
        # Under its own name it would be in the way of the step that is saved there anew.
        multihost_utils.sync_global_devices("checkpoint restored")
        for path, error in damaged:
            aside = path.with_name(f"{path.name}.damaged")
            self._say(f"warning: {error}; set aside as {aside.name}, going on from the one before")
            if jax.process_index() == 0:
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        multihost_utils.sync_global_devices("damaged checkpoints set aside")
        self._checkpointer.close()
        self._checkpointer = self._open()

    def wait(self) -> None:
        """Until what is being written is whole."""
        self._checkpointer.wait()

    def close(self) -> None:
        """Waits for writing to end."""
        self._checkpointer.close()


def find_checkpoint(path: str | Path) -> Path:
    """A work directory (→ its latest checkpoint) or one checkpoint → the checkpoint. Raises InputError for anything else."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"{path}: no such directory; expected a work directory of `ellav train` or one of its checkpoints"
        )
    if (path / "checkpoints").is_dir():
        steps = sorted(int(p.name) for p in (path / "checkpoints").iterdir() if p.name.isdigit())
        if not steps:
            raise InputError(f"{path}: holds no finished checkpoint yet; train it further with `ellav train`")
        return path / "checkpoints" / str(steps[-1])
    if not (path / "params").is_dir():
        raise InputError(f"{path}: neither a work directory of `ellav train` nor one of its checkpoints")
    return path


def read_card(path: Path) -> Card:
    """The card of one checkpoint. Raises InputError when there is none."""
    card = _metadata(path).custom_metadata
    if not card or not {"experiment", "frontend", "codec"} <= set(card):
        raise InputError(
            f"{path}: this checkpoint does not say what it was trained on; it was not written by `ellav train`"
        )
    return dict(card)


def has_average(path: Path) -> bool:
    """Whether a checkpoint holds a moving average of its parameters. Raises InputError for a damaged one."""
    return "ema" in _metadata(path).metadata


def save_params(path: Path, params: Params, card: Card) -> None:
    """Writes a checkpoint of parameters alone, for `load_params`; there is no optimizer's state to continue from."""
    with _quiet():
        ocp.save_checkpointables(path.absolute(), {"params": params}, custom_metadata=card)


def load_params(path: Path, abstract: Params, *, average: bool = True) -> Params:
    """Parameters of one checkpoint (their moving average where it has one), laid out as `abstract`'s shardings say.

    average: False for the parameters themselves. Raises InputError when they aren't of these shapes, or a file is damaged.
    """
    part = "ema" if average and has_average(path) else "params"
    _check_fit(path, {part: abstract})
    try:
        with _quiet():
            return ocp.load_checkpointables(path.absolute(), {part: abstract})[part]
    except Exception as error:
        raise InputError(f"{path}: its weights cannot be read ({type(error).__name__}: {error})") from error


def _metadata(path: Path) -> Any:
    try:
        with _quiet():
            return ocp.checkpointables_metadata(path.absolute())
    except Exception as error:
        raise DamagedCheckpoint(f"{path}: not a readable checkpoint ({type(error).__name__}: {error})") from error


def _check_fit(path: Path, parts: Mapping[str, Any]) -> None:
    """Raises InputError that names every array that is missing, left over or of another shape."""
    stored = _metadata(path).metadata
    found, wanted = (
        {
            ("" if part == "params" else f"{part}.") + jax.tree_util.keystr(key, simple=True, separator="."): tuple(
                leaf.shape
            )
            for part in parts
            for key, leaf in jax.tree.leaves_with_path(trees.get(part, {}))
        }
        for trees in (stored, parts)
    )
    if not stored.keys() & {"params"} or not jax.tree.leaves(stored["params"]):
        raise DamagedCheckpoint(f"{path}: holds no weights; its files are damaged or of another program")
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"{name} is left over" for name in sorted(found.keys() - wanted.keys())]
    wrong += [
        f"{name} is {list(found[name])}, expected {list(wanted[name])}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]
    if wrong:
        raise InputError(f"{path}: its weights are not those of this model: {'; '.join(wrong)}")


def _parts(state: TrainState) -> dict[str, Any]:
    """The state as a checkpoint's parts; the parameters alone in one, so that synthesis reads no optimizer moments."""
    parts = {"params": state["params"], "optimizer": {"optimizer": state["optimizer"], "step": state["step"]}}
    return parts | ({"ema": state["ema"]} if "ema" in state else {})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax's notices about folders it makes out of a user's terminal."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
