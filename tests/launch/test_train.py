"""`ellav train` as a user meets it: a run, its interruption, its continuation, and what it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.files import take_lock
from ellav_jax.training.checkpoint import find_checkpoint, read_card
from ellav_jax.training.metrics import read_metrics
from launch import cli
from launch.workdir import check_place

ROOT = Path(__file__).parents[2]


def test_a_run_leaves_what_the_documentation_says(trained, prepared_bundled):
    workdir = trained("gar")
    assert {p.name for p in workdir.iterdir()} == {
        ".lock", "checkpoints", "experiment.json", "frontend.json", "metrics.jsonl", "starts.jsonl", "tensorboard"
    }  # fmt: skip
    assert (workdir / "frontend.json").read_text() == (prepared_bundled / "frontend.json").read_text()
    card = read_card(find_checkpoint(workdir))
    assert card["experiment"]["kind"] == "gar"
    assert card["experiment"]["data"]["row_length"] == 256
    assert card["codec"]["name"] == "bundled"
    assert card["frontend"] == json.loads((prepared_bundled / "frontend.json").read_text())
    assert [entry["step"] for entry in read_metrics(workdir / "metrics.jsonl", "train")] == [2]
    assert read_metrics(workdir / "metrics.jsonl", "held_out")[0]["layer_1_loss"] > 0


def test_the_nar_is_judged_layer_by_layer(trained):
    figures = read_metrics(trained("nar") / "metrics.jsonl", "held_out")[0]
    names = {name for name in figures if name.startswith("layer")}
    assert names == {f"layer_{layer}_{figure}" for layer in range(2, 9) for figure in ("loss", "accuracy")}


def test_fields_of_the_experiment_are_options(trained, experiments, prepared_bundled, capsys):
    """A finished run is asked for again with fields of `train` changed: that is said, and only held-out data is run."""
    workdir = trained("gar")
    capsys.readouterr()
    arguments = ["--data", prepared_bundled, "--workdir", workdir, "--train.log-every", "7", "--train.steps", "2"]
    assert cli.main(["train", f"{experiments}:gar", *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    assert "changed since this run began: train.log_every: 1 there, 7 now" in out
    assert "resumed at step 2, row 4" in out


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(experiments, prepared_bundled, tmp_path):
    workdir = tmp_path / "w"
    command = [sys.executable, "-m", "launch.cli", "train", f"{experiments}:gar"]
    command += ["--data", prepared_bundled, "--workdir", workdir]
    options = {"env": {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}, "text": True}
    process = subprocess.Popen(
        [*command, "--train.steps", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )
    for line in process.stdout:
        if line.startswith("step 3/"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    stopped = int(re.search(r"stopped at step (\d+), checkpoint saved; the same command continues", out)[1])
    assert stopped >= 3
    assert find_checkpoint(workdir).name == str(stopped)
    assert err == "\nellav: interrupted; the same command continues where this one stopped\n"

    again = subprocess.run(
        [*command, "--train.steps", str(stopped + 2)], capture_output=True, timeout=120, check=True, **options
    )
    assert f"resumed at step {stopped}, row {2 * stopped}" in again.stdout
    assert find_checkpoint(workdir).name == str(stopped + 2)
    steps = [entry["step"] for entry in read_metrics(workdir / "metrics.jsonl", "train")]
    assert steps[0] == 2 and steps[-1] == stopped + 2


def test_a_second_run_beside_one_that_goes_on_is_refused_and_changes_nothing(
    trained, experiments, prepared_bundled, refused
):
    workdir = trained("gar")
    starts = (workdir / "starts.jsonl").read_text()
    with take_lock(workdir / ".lock", "held already"):
        error = refused("train", f"{experiments}:gar", "--data", prepared_bundled, "--workdir", workdir)
    assert f"{workdir}: another `ellav train` is at work in it" in error
    assert (workdir / "starts.jsonl").read_text() == starts


def test_another_run_in_the_work_directory_is_refused(trained, experiments, prepared_bundled, refused, tmp_path):
    gar = ("train", f"{experiments}:gar", "--data", prepared_bundled, "--workdir", trained("gar"))
    error = refused(*gar, "--model.transformer.width", "64", "--layout.local-advance", "1")
    assert "holds another run" in error
    assert "local_advance: 0 there, 1 now" in error
    assert "width: 32 there, 64 now" in refused(*gar, "--model.transformer.width", "64")
    nar = refused("train", f"{experiments}:nar", "--data", prepared_bundled, "--workdir", trained("gar"))
    assert "holds another run" in nar

    other = shutil.copytree(prepared_bundled, tmp_path / "frontend")
    frontend = json.loads((other / "frontend.json").read_text())
    (other / "frontend.json").write_text(json.dumps(frontend | {"silence_min_seconds": 0.2}))
    error = refused("train", f"{experiments}:gar", "--data", other, "--workdir", trained("gar"))
    assert "another frontend: silence_min_seconds is 0.2, expected 0.1" in error

    other = shutil.copytree(prepared_bundled, tmp_path / "codec")
    info = json.loads((other / "dataset.json").read_text())
    info["codec"]["sha256"] = "0" * 64
    (other / "dataset.json").write_text(json.dumps(info))
    error = refused("train", f"{experiments}:gar", "--data", other, "--workdir", trained("gar"))
    assert "was trained on codec" in error


def test_other_utterances_in_the_same_work_directory_are_refused(
    trained, experiments, prepared_bundled, refused, tmp_path
):
    other = shutil.copytree(prepared_bundled, tmp_path / "other")
    with np.load(other / "lengths.npz") as file:
        lengths = dict(file)
    lengths["train/frames"] = lengths["train/frames"][::-1]
    np.savez(other / "lengths.npz", **lengths)
    error = refused("train", f"{experiments}:gar", "--data", other, "--workdir", trained("gar"))
    assert "was trained on other utterances than those of" in error


def test_folders_that_are_something_else_are_refused(experiments, prepared_bundled, refused, tmp_path):
    start = ("train", f"{experiments}:gar", "--data", prepared_bundled, "--workdir")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    assert "not empty and not a work directory" in refused(*start, tmp_path / "letters")
    assert "a file is in the way" in refused(*start, tmp_path / "letters" / "letter.txt")
    assert [p.name for p in (tmp_path / "letters").iterdir()] == ["letter.txt"]
    no_data = ("train", f"{experiments}:gar", "--workdir", tmp_path / "w", "--data")
    assert "no such data set" in refused(*no_data, tmp_path / "nowhere")
    assert "not a data set" in refused(*no_data, tmp_path / "letters")
    assert not (tmp_path / "w").exists()


def test_a_folder_that_holds_only_the_description_of_the_launched_job_is_free(tmp_path):
    (tmp_path / "launches").mkdir()
    (tmp_path / "launches" / "gar.json").write_text("{}")
    check_place(tmp_path)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty and not a work directory"):
        check_place(tmp_path)


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing_like_it.gar", "no configs/nothing_like_it.py; there are: libriheavy_1b"),
        ("prompts_small", "it has: gar, valle, paper_layout, no_global_advance, local_advance_3"),
        (
            "prompts_small.gra",
            "has no function 'gra'; it has: gar, valle, paper_layout, no_global_advance, local_advance_3",
        ),
        ("prompts_small.Experiment", "has no function 'Experiment'"),
        ("trained.load_trained", "no configs/trained.py"),
        ("{file}:gra", "has no function 'gra'; it has: gar, nar, nothing"),
        ("{file}.py:gar", "no such file"),
    ],
)
def test_an_unknown_experiment_is_refused_and_those_there_are_named(
    name, message, experiments, prepared_bundled, refused, tmp_path
):
    name = name.format(file=experiments)
    assert message in refused("train", name, "--data", prepared_bundled, "--workdir", tmp_path / "w")


def test_no_experiment_at_all_is_refused(refused):
    assert "wants the experiment first" in refused("train", "--data", "x")


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--model.transformer.width", "30", "an even width each"),
        ("--model.transformer.num-heads", "0", "num_heads must be 1 or more"),
        ("--model.transformer.dropout", "1", "dropout must be"),
        ("--layout.local-advance", "-1", "local_advance must be 0 or more"),
        ("--data.batch-rows", "0", "batch_rows must be 1 or more"),
        ("--train.evaluate-every", "0", "evaluate_every must be 1 or more"),
        ("--train.steps", "many", "--train.steps"),
        ("--train.optimizer.schedule", "linear", "inverse_sqrt"),
    ],
)
def test_a_value_that_cannot_be_is_status_2_and_said(
    option, value, message, experiments, prepared_bundled, capsys, tmp_path
):
    arguments = ["--data", str(prepared_bundled), "--workdir", str(tmp_path / "w"), option, value]
    try:
        status = cli.main(["train", f"{experiments}:gar", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "option, value, message",
    [("--mesh.data", "3", "does not fit 1 devices"), ("--data.row-length", "20", "raise --data.row-length")],
)
def test_what_does_not_go_together_is_refused(option, value, message, experiments, prepared_bundled, refused, tmp_path):
    start = ("train", f"{experiments}:gar", "--data", prepared_bundled, "--workdir", tmp_path / "w")
    assert message in refused(*start, option, value)
    assert not (tmp_path / "w").exists()
