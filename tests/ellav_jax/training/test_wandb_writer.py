"""Weights & Biases, by the real package, without a network."""

import json

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.training.metrics import MetricsWriter
from ellav_jax.training.sample import Sample

wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install 'ellav-jax[wandb]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield
    wandb.teardown()  # it reads the environment once


def test_a_run_and_its_continuation_are_one_run_with_figures_sound_and_pictures(tmp_path):
    workdir = tmp_path / "w"
    workdir.mkdir()
    picture_HxWx3 = np.zeros((8, 9, 3), np.uint8)
    for step in (5, 10):
        writer = MetricsWriter(workdir, wandb="my-project", about={"kind": "gar"})
        writer.write(step, {"loss": 2.5}, split="train")
        writer.write_samples(step, [Sample("0", np.zeros(2400, np.float32), 24_000, picture_HxWx3)])
        writer.close()
    note = json.loads((workdir / "wandb.json").read_text())
    assert note["project"] == "my-project"
    logs = list((workdir / "wandb").glob(f"offline-run-*-{note['id']}/run-{note['id']}.wandb"))
    assert logs
    for log in logs:
        assert b"train/loss" in log.read_bytes()
        assert len(list(log.parent.glob("files/media/audio/samples/*.wav"))) >= 1
        assert len(list(log.parent.glob("files/media/images/samples/*.png"))) >= 1
    with pytest.raises(InputError, match="this run is in the project my-project"):
        MetricsWriter(workdir, wandb="another")


def test_a_run_that_wandb_does_not_take_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="set WANDB_MODE=offline") as error:
        MetricsWriter(tmp_path, wandb="my-project")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "wandb.json").exists()
