"""A run's work directory: whose it is, and how it was started."""

import contextlib
import datetime as dt
import json
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from configs.experiment import differences
from data_pipelines.mixture import MixedRows
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.files import read_json, take_lock, write_json
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.hardware import hardware_name
from ellav_jax.training.checkpoint import Card
from launch.assemble import say
from launch.cli import version
from launch.jobs.description import LAUNCHES
from launch.processes.shared_storage import FOLDER
from launch.source_tree import revision

DESCRIPTION = "experiment.json"
LOCK = ".lock"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
_MAY_CHANGE = tuple(f"model.transformer.{name}:" for name in ("remat", "attention", "unroll"))


@contextlib.contextmanager
def claim(workdir: Path, card: Card, datasets: Sequence[Dataset], rows: MixedRows) -> Iterator[None]:
    """Makes the work directory, or checks that the run in it is this one; within it, no other run goes on in there.

    What decides how a step is computed, not what it is, may change: the fields of `train`, `mesh` and `sharding`, and the
    model's remat, attention and unroll. All processes call it. Raises InputError.
    """
    description = workdir / DESCRIPTION
    # What the row numbers of a resumed run refer to: the utterances of each data set, their order, and the shares.
    data = [
        {"corpus": dataset.info["corpus"]["name"], "utterances": dataset.digest("train"), "share": str(share)}
        for dataset, share in zip(datasets, rows.shares, strict=True)
    ]
    check_place(workdir)
    if description.exists():
        old = read_json(description, "description of a run")
        where = ", ".join(str(dataset.path) for dataset in datasets)
        Frontend.from_dict(old["frontend"], str(description)).check_same(datasets[0].frontend, f"{workdir} and {where}")
        for part in ("layout", "model", "data", "kind"):
            changed = differences({part: old["experiment"].get(part)}, {part: card["experiment"][part]})
            changed = [line for line in changed if not line.startswith(_MAY_CHANGE)]
            if changed:
                raise InputError(f"{workdir} holds another run ({'; '.join(changed)}); choose another --workdir")
        if old["codec"] != card["codec"]:
            raise InputError(f"{workdir} was trained on codec {old['codec']}, {where} has {card['codec']}")
        _check_same_data(workdir, old.get("data", []), data, where)
        for line in differences(old["experiment"], card["experiment"]):
            say(f"changed since this run began: {line}")
    # Nobody writes before everybody has looked, and nobody goes on before it is written.
    _meet("work directory looked at")
    with _alone_in(workdir):
        if jax.process_index() == 0:
            # First what makes it a work directory: stopped behind it, the same command goes on.
            write_json(description, card | {"data": data})
            datasets[0].frontend.to_json(workdir / "frontend.json")
            _record_start(workdir, datasets)
        _meet("work directory claimed")
        yield


def check_place(workdir: Path) -> None:
    """Raises InputError where it is neither the work directory of a run nor free to become one."""
    if not workdir.exists():
        return
    if not workdir.is_dir():
        raise InputError(f"{workdir}: a file is in the way; --workdir wants a directory")
    if (workdir / DESCRIPTION).exists():
        return
    if any(path.name not in (LOCK, LAUNCHES, FOLDER) for path in workdir.iterdir()):
        raise InputError(f"{workdir}: not empty and not a work directory of ellav train; choose another --workdir")


def taken_by_another(workdir: Path) -> str:
    """What is said to who comes second."""
    return f"{workdir}: another `ellav train` is at work in it; wait for it, stop it, or choose another --workdir"


@contextlib.contextmanager
def _alone_in(workdir: Path) -> Iterator[None]:
    """Process 0 holds the lock for all of them. Raises InputError, in all of them, where another run has it."""
    taken = taken_by_another(workdir)
    lock, free = contextlib.nullcontext(), True
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            lock = take_lock(workdir / LOCK, taken)
        except InputError:
            free = False
    if jax.process_count() > 1:
        free = bool(multihost_utils.broadcast_one_to_all(np.array(free)))
    if not free:
        raise InputError(taken)
    with lock:
        yield


def _meet(where: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _record_start(workdir: Path, datasets: Sequence[Dataset]) -> None:
    """Appends to starts.jsonl what this start of the run has that its configuration doesn't say."""
    start = {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "hardware": hardware_name(jax.devices()),
        "processes": jax.process_count(),
        "corpora": [dataset.info["corpus"] for dataset in datasets],
        "revision": revision(),
        "versions": {"ellav-jax": version()} | {name: metadata.version(name) for name in _PACKAGES},
        "flags": {name: os.environ[name] for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS") if name in os.environ},
    }
    with open(workdir / "starts.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")


def _check_same_data(workdir: Path, old: list[dict[str, str]], new: list[dict[str, str]], where: str) -> None:
    utterances, asked = ([part["utterances"] for part in data] for data in (old, new))
    if old == new:
        return
    if utterances == asked:
        what = "the same data sets in other shares"
    elif sorted(utterances) == sorted(asked):
        what = "the same data sets in another order"
    else:
        what = f"other utterances than those of {where}"
    mixtures = (
        "; ".join(f"{part['corpus']} {float(Fraction(part['share'])):.2%}" for part in data) for data in (old, new)
    )
    raise InputError(
        f"{workdir} was trained on {what} ({' there, '.join(mixtures)} now); give --data as it was, or choose another "
        "--workdir"
    )
