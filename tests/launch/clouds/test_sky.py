"""`ellav launch sky`: the task against SkyPilot's own schemas, its commands on a node, and what is asked of `sky`."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from launch import cli
from tests.launch.stand_ins import StandIns, tool

SCHEMAS = Path(__file__).with_name("schemas") / "skypilot-0.14.1.json"


def _arguments(hardware="h100-16"):
    places = ["--data", "gs://b/ls", "--workdir", "s3://runs/w"]
    return ["launch", "sky", "librispeech.gar", *places, "--hardware", hardware]


@pytest.fixture
def generate(capsys, tmp_path, monkeypatch):
    """`generate(*arguments)`: the text of the task of a dry run."""
    monkeypatch.chdir(tmp_path)

    def task(*arguments):
        assert cli.main([*arguments, "--dry-run"]) == 0
        return capsys.readouterr().out.partition("/task.yaml\n")[2].partition("\n# checked first")[0]

    return task


def _check(text):
    task, schemas = yaml.safe_load(text), json.loads(SCHEMAS.read_text())
    jsonschema.validate(task, schemas["task"])
    jsonschema.validate(task["resources"], schemas["resources"])
    for mounted in task["file_mounts"].values():
        if isinstance(mounted, dict):
            jsonschema.validate(mounted, schemas["storage"])
    return task


def _run_on_node(task, tmp_path, rank):
    """The command line that the task's `run` comes to on a node, its program being a stand-in."""
    programs = StandIns(tmp_path / f"home{rank}")
    bin_folder = programs.folder / "ellav-venv/bin"
    bin_folder.mkdir(parents=True)
    programs.add("ellav")
    (programs.folder / "ellav").rename(bin_folder / "ellav")
    environment = {"HOME": str(programs.folder), "PATH": "/usr/bin:/bin"}
    environment |= {"SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6", "SKYPILOT_NODE_RANK": str(rank)}
    subprocess.run(["bash", "-c", task["run"]], env=environment, check=True)
    [call] = programs.calls
    return call


def test_a_task_passes_skypilots_schemas_and_starts_a_process_a_node(generate, tmp_path):
    task = _check(
        generate(*_arguments(), "--spot", "--infra", "gcp/us-central1", "--env", "A=b", "--train.steps", "500")
    )
    assert task["num_nodes"] == 2
    assert task["resources"]["accelerators"] == "H100:8"
    assert task["resources"]["use_spot"] is True
    assert task["envs"] == {"A": "b"}
    assert task["file_mounts"]["/mnt/ellav/work"] == {"source": "s3://runs", "mode": "MOUNT"}
    call = _run_on_node(task, tmp_path, 1)
    words = ["--data", "/mnt/ellav/data-0/ls", "--workdir", "/mnt/ellav/work/w", "--train.steps", "500"]
    group = ["--coordinator", "10.0.0.5:8476", "--num-processes", "2", "--process-id", "1"]
    assert call == ["ellav", "train", "librispeech.gar", *words, *group]
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)


def test_one_node_is_one_process_and_an_image_needs_no_setup(generate):
    task = _check(generate(*_arguments("a100-80gb-4"), "--image", "r/ellav:cuda12"))
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (1, "A100-80GB:4")
    assert task["resources"]["image_id"] == "docker:r/ellav:cuda12"
    assert "setup" not in task
    assert "--coordinator" not in task["run"]


def test_an_experiments_file_is_sent_along(generate, experiments, tmp_path):
    arguments = _arguments("h100-1")
    arguments[2] = f"{experiments}:gar"
    task = _check(generate(*arguments))
    [there] = [path for path, source in task["file_mounts"].items() if source == str(experiments)]
    assert f"{there}:gar" in _run_on_node(task, tmp_path, 0)


def test_the_task_passes_yamllint(generate, tmp_path):
    (tmp_path / "task.yaml").write_text(generate(*_arguments(), "--env", "A=yes"))
    rules = "{extends: default, rules: {line-length: disable}}"
    subprocess.run([tool("yamllint"), "--strict", "--config-data", rules, tmp_path / "task.yaml"], check=True)


@pytest.mark.parametrize(("spot", "begins"), [(True, ["sky", "jobs", "launch"]), (False, ["sky", "launch", "--yes"])])
def test_secrets_are_passed_by_name_and_bad_buckets_are_told_first(spot, begins, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "sesame")
    programs = StandIns(tmp_path / "bin")
    for name in ("sky", "gcloud", "aws"):
        programs.add(name)
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    arguments = [*_arguments(), "--secret", "WANDB_API_KEY", *(["--spot"] if spot else [])]
    assert cli.main(arguments) == 0
    [launched] = [call for call in programs.calls if "launch" in call]
    assert launched[: len(begins)] == begins
    assert launched[launched.index("--secret") + 1] == "WANDB_API_KEY"
    written = "".join(path.read_text() for path in (tmp_path / "launches").rglob("*") if path.is_file())
    assert "sesame" not in written + json.dumps(programs.calls) + capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "launches/librispeech-gar/task.yaml").read_text())["secrets"] == {
        "WANDB_API_KEY": None
    }
    programs.add("aws", "sys.exit('An error occurred (AccessDenied)')")
    assert cli.main(arguments) == 2
    assert "--workdir s3://runs/w: the bucket can't be written (aws: An error" in capsys.readouterr().err
    assert len([call for call in programs.calls if "launch" in call]) == 1
