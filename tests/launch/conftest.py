"""A GAR and a NAR trained for two steps by the command line itself, and the experiments they come from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli

EXPERIMENTS = """
from configs.experiment import Experiment
from data_pipelines.loader import DataConfig
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.nar import NarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.run import TrainConfig

SIZE = TransformerConfig.llama(
    num_layers=2, num_heads=2, width=32, ff_width=48, dropout=0.0, dtype="float32", remat="none"
)
DATA = DataConfig(row_length=256, batch_rows=2)
TRAIN = TrainConfig(
    steps=2, log_every=1, evaluate_every=1000, checkpoint_every=1000, optimizer=OptimizerConfig(warmup_steps=1)
)


def gar():
    return Experiment(LayoutConfig(), GarConfig(SIZE), DATA, TRAIN)


def nar():
    return Experiment(LayoutConfig(), NarConfig(SIZE), DATA, TRAIN)


def nothing():
    return LayoutConfig()
"""


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of experiments with functions gar, nar, and nothing (which returns no experiment)."""
    path = tmp_path_factory.mktemp("experiments") / "small.py"
    path.write_text(EXPERIMENTS)
    return path


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, experiments: Path, prepared_bundled: Path
) -> Callable[[str], Path]:
    """`trained("gar")`: a work directory, made at the first call. Read only: copy it to change it."""
    made: dict[str, Path] = {}

    def work_directory(kind: str) -> Path:
        if kind not in made:
            workdir = tmp_path_factory.mktemp("trained") / kind
            data = ["--data", str(prepared_bundled), "--workdir", str(workdir)]
            assert cli.main(["train", f"{experiments}:{kind}", *data]) == 0
            made[kind] = workdir
        return made[kind]

    return work_directory


@pytest.fixture
def refused(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """`refused("train", …)`: runs the command line; one line on stderr and status 2 are asked for; → that line."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("ellav: error: ")
        assert error.count("\n") == 1
        return error

    return run
