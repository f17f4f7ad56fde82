"""A run's figures and samples on Weights & Biases (the extra `wandb`)."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.files import read_json, write_json
from ellav_jax.training.sample import Sample


def require_wandb() -> None:
    """Raises InputError that names the extra where the package is missing."""
    try:
        import wandb  # noqa: F401
    except ImportError:
        raise InputError(
            "train.wandb needs the package wandb; install it with: pip install 'ellav-jax[wandb]'"
        ) from None


class WandbWriter:
    """One run of a project for one work directory: WORKDIR/wandb.json keeps its id, so that a continued run goes on in it.

    Entity, server, key and mode are wandb's own settings (`wandb login`, WANDB_ENTITY, WANDB_MODE=offline, …). Raises
    InputError when wandb can't start the run: no key, no network, or a work directory of another project.
    """

    def __init__(self, workdir: Path, project: str, about: Mapping[str, Any]):
        import wandb

        self._wandb = wandb
        note = workdir / "wandb.json"
        known = {"project": project, "id": secrets.token_hex(4)}
        if note.exists():
            known = read_json(note, "note on the run's place on Weights & Biases")
        if known["project"] != project:
            raise InputError(
                f"{note}: this run is in the project {known['project']}; give --train.wandb {known['project']}, or remove "
                "that file to begin another"
            )
        try:
            self._run = wandb.init(
                project=project,
                id=known["id"],
                resume="allow",
                name=workdir.resolve().name,
                dir=workdir,
                config=dict(about),
                settings=wandb.Settings(console="off"),  # standard output is the user's
            )
        except wandb.errors.Error as error:
            raise InputError(
                f"Weights & Biases does not take the run ({' '.join(str(error).split())}); run `wandb login`, or set "
                "WANDB_MODE=offline to keep it on disk for `wandb sync`"
            ) from None
        write_json(note, known)
        # By the run's own steps: wandb's would refuse those that a continued run goes through again.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float], split: str) -> None:
        """A point of SPLIT/NAME for each value."""
        self._run.log({"step": step, **{f"{split}/{name}": value for name, value in values.items()}})

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """A player and a picture for each sample."""
        media: dict[str, Any] = {}
        for one in samples:
            media[f"samples/{one.name}"] = self._wandb.Audio(one.waveform_S, sample_rate=one.sample_rate)
            media[f"samples/{one.name}_picture"] = self._wandb.Image(one.picture_HxWx3)
        self._run.log({"step": step, **media})

    def close(self) -> None:
        """Waits until all is sent, or on disk when offline."""
        self._run.finish()
