"""What all targets of `ellav launch` share: hardware, storage, the description, and bad input told before anything runs."""

import json

import pytest

from ellav_jax.errors import InputError
from launch import cli
from launch.jobs import plan as job_plan
from launch.jobs.description import environment_of, job_name
from launch.jobs.hardware import find_hardware
from launch.jobs.storage import Mount, lay_out, split_weight
from launch.jobs.text import yaml_text

GKE = ("gke", "librispeech_pod.gar", "--data", "gs://b/ls", "--workdir", "gs://b/w", "--image", "r/ellav:1")


def _launch(*arguments):
    return cli.main(["launch", *arguments])


def _refused(capsys, *arguments):
    """The one line that is said about it."""
    assert _launch(*arguments) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert said.out == ""
    return line


@pytest.mark.parametrize(
    ("name", "mesh_name", "hosts", "devices"),
    [
        ("v5p-256", "v5p-256", 32, 128),
        ("2xv5e-16", "2xv5e-16", 8, 32),
        ("v6e-8", "v6e-8", 1, 8),
        ("h100-16", "h100-16", 2, 16),
        ("a100-80gb-4", "a100-4", 1, 4),
    ],
)
def test_hardware_has_the_name_that_the_mesh_rules_know(name, mesh_name, hosts, devices):
    hardware = find_hardware(name)
    assert (hardware.name, hardware.num_hosts, hardware.num_devices) == (mesh_name, hosts, devices)


@pytest.mark.parametrize("name", ["h100-12", "h100-0", "b300-8", "h100", "v5p-9", "cpu-2", "-8"])
def test_hardware_that_cannot_be_had_is_refused(name):
    with pytest.raises(InputError, match=name):
        find_hardware(name)


def test_each_source_is_mounted_once_and_the_work_directory_apart():
    storage = lay_out(
        ("gs://b/a:0.5", "nfs://10.0.0.2/vol1/c/d:0.5", "gs://b/e:1/3"),
        "gs://b/runs/w",
        "gs://b/old",
        ("gs", "nfs"),
        "X",
    )
    assert storage.mounts == (
        Mount("gs", "b", "/mnt/ellav/work", True),
        Mount("gs", "b", "/mnt/ellav/data-0", False),
        Mount("nfs", "10.0.0.2:/vol1", "/mnt/ellav/data-1", False),
    )
    assert storage.data == ("/mnt/ellav/data-0/a:0.5", "/mnt/ellav/data-1/c/d:0.5", "/mnt/ellav/data-0/e:1/3")
    assert (storage.workdir, storage.init_from) == ("/mnt/ellav/work/runs/w", "/mnt/ellav/data-0/old")


@pytest.mark.parametrize("location", ["/data/x", "gs://b", "s3://b/x", "nfs://server/export", "gs://b/../x", "b/x"])
def test_what_the_job_cannot_mount_is_refused(location):
    with pytest.raises(InputError, match=location):
        lay_out(("gs://b/a",), location, None, ("gs", "nfs"), "GKE")


def test_a_weight_is_told_from_a_url():
    assert split_weight("gs://b/a") == ("gs://b/a", "")
    assert split_weight("gs://b/a:0.5") == ("gs://b/a", ":0.5")


def test_names_are_made_from_experiments_and_fit_kubernetes():
    assert job_name(None, "librispeech_pod.gar") == "librispeech-pod-gar"
    assert job_name(None, "/home/me/My_Trials.py:gar_2") == "my-trials-gar-2"
    assert len(job_name(None, "a" * 60 + ".gar")) <= 40
    for bad in ("Upper", "9th", "x" * 41, "under_score", "end-", ""):
        with pytest.raises(InputError, match="--name"):
            job_name(bad, "a.b")


def test_a_secret_is_refused_where_it_would_be_written_down():
    assert environment_of(["A=b=c", "EMPTY="]) == {"A": "b=c", "EMPTY": ""}
    with pytest.raises(InputError, match="--secret WANDB_API_KEY") as error:
        environment_of(["WANDB_API_KEY=sesame"])
    assert "sesame" not in str(error.value)


def test_yaml_keeps_texts_that_look_like_other_types_apart():
    import yaml

    value = {"a": ["1", "true", "null", "on", 2, True], "b": "several\nlines: yes\n", "c": {"d": "x: y"}}
    assert yaml.safe_load(yaml_text(value)) == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gke", "librispeech_pod.gra", *GKE[2:]), "near it: librispeech_pod.gar"),
        (("gke", "librispech.gar", *GKE[2:]), "near it: librispeech.gar"),
        ((*GKE, "--hardware", "v5p-100"), "v5p has no slice of 100"),
        ((*GKE, "--hardware", "h100-12"), "nodes have 8 GPUs"),
        ((*GKE, "--hardware", "2xv5e-8"), "slices of several hosts only"),
        ((*GKE, "--mesh.fsdp", "7"), "does not fit 128 devices"),
        ((*GKE, "--data.batch-rows", "100"), "does not divide over 128 devices"),
        ((*GKE, "--mesh.tensor", "32"), "does not divide over 32 devices"),
        ((*GKE, "--distributed"), "set by ellav launch"),
        ((*GKE, "--env", "MY_TOKEN=x"), "looks like a secret"),
        ((*GKE, "--secret", "MY_TOKEN=x"), "give the name alone"),
        ((*GKE, "--cluster", "c"), "expected PROJECT/LOCATION/NAME"),
        ((*GKE, "--name", "Mine"), "--name Mine"),
        ((*GKE[:2], *GKE[4:]), "give --data URL"),
        (("gke",), "wants the experiment first"),
        (("tpuvm", "librispeech_pod.gar"), "there is no such target"),
        (("tpu-vm", *GKE[1:6], "--project", "p", "--zone", "z", "--hardware", "h100-8"), "expected TPUs"),
        (("sky", *GKE[1:6]), "is for GPUs"),
        (("sky", *GKE[1:6], "--hardware", "h100-8", "--secret", "ABSENT"), "the environment has no ABSENT"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    needs = ["--hardware", "v5p-256"] if len(arguments) > 4 and "--hardware" not in arguments else []
    assert said in _refused(capsys, *arguments, *needs)
    assert not list(tmp_path.iterdir())


def test_a_missing_tool_is_named_with_the_way_to_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    line = _refused(capsys, *GKE, "--hardware", "v5p-256")
    assert "kubectl is not on PATH; install it (https://" in line
    assert not list(tmp_path.iterdir())


def test_a_failing_check_says_what_the_tool_said(tmp_path):
    check = job_plan.Check(["sh", "-c", "echo 'ERROR: (x) no access' >&2; echo Please run: y >&2; exit 1"], "no bucket")
    plan = job_plan.LaunchPlan({"a": "text"}, [check], [["touch", str(tmp_path / "submitted")]], [])
    with pytest.raises(InputError, match=r"no bucket \(sh: ERROR: \(x\) no access\)"):
        job_plan.carry_out(plan, tmp_path)
    assert not (tmp_path / "submitted").exists()


def test_a_command_that_fails_ends_the_launch_with_status_1(tmp_path):
    plan = job_plan.LaunchPlan({}, [], [["sh", "-c", "exit 7"], ["touch", str(tmp_path / "next")]], [])
    with pytest.raises(Exception, match="failed with status 7"):
        job_plan.carry_out(plan, tmp_path)
    assert not (tmp_path / "next").exists()


def test_overrides_come_behind_and_the_description_has_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A dry run asks no tool.
    monkeypatch.setenv("PATH", "/nowhere")
    arguments = ["--train.steps", "500", "--layout.order", "paper", "--samples.every", "0"]
    assert _launch(*GKE, "--hardware", "v5p-256", "--dry-run", *arguments) == 0
    out = capsys.readouterr().out
    job = json.loads(out[out.index("{") : out.index("\n}\n") + 2])
    assert job["overrides"] == arguments
    assert (job["experiment"], job["hardware"], job["processes"]) == ("librispeech_pod.gar", "v5p-256", 32)
    assert not list(tmp_path.iterdir())
