"""`ellav launch tpu-vm`: its scripts, run against stand-ins of gcloud on this side and of systemd on the workers'."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from launch import cli, source_tree
from launch.clouds import launch as launch_cloud
from launch.clouds import tpu_vm
from launch.clouds.tpu_vm import SCRIPTS
from tests.launch.clouds.stand_in_cloud import Cloud
from tests.launch.stand_ins import StandIns, tool

ARGUMENTS = ["launch", "tpu-vm", "librispeech_pod.gar", "--data", "gs://b/ls", "--workdir", "gs://b/w"]
ARGUMENTS += ["--project", "p", "--zone", "z", "--name", "trial"]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    return Cloud(tmp_path, monkeypatch)


def _launch(*arguments, hardware="v5e-16"):
    return cli.main([*ARGUMENTS, "--hardware", hardware, *arguments])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository of one file, which is quick to send."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "setup.py").write_text("# a source tree\n")
    for words in (["init"], ["add", "setup.py"], ["commit", "--message", "first"]):
        name = ["-c", "user.name=x", "-c", "user.email=x"]
        subprocess.run(["git", "-C", folder, *name, *words], check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_tree, "SOURCE", folder)
        patch.setattr(tpu_vm, "SOURCE", folder)
        yield folder


@pytest.fixture(scope="module")
def generated(repository):
    """`generated(*arguments)`: the files of a launch, by name; made once for the same arguments."""
    made = {}

    def files(*arguments, experiment="librispeech_pod.gar"):
        key = (experiment, *arguments)
        if key not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(launch_cloud, "carry_out", lambda plan, out: made.update({key: plan.files}))
                assert cli.main([*ARGUMENTS[:2], experiment, *ARGUMENTS[3:], *arguments]) == 0
        return made[key]

    return files


@pytest.fixture
def script(generated, tmp_path):
    """`script(verb, *arguments)`: runs the generated script; → how it ended."""

    def run(verb, *arguments):
        folder = tmp_path / "launches/trial"
        if not folder.exists():
            folder.mkdir(parents=True)
            for name, text in generated(*(arguments or ("--hardware", "v5e-16"))).items():
                (folder / name).write_text(text)
            (folder / "source.tar.gz").touch()
        return subprocess.run(["bash", folder / SCRIPTS[0], verb], capture_output=True, text=True, timeout=60)

    return run


ON_ALL = ["ssh trial all 'ellav-trial'", "scp trial:ellav-trial/"]
STARTED = [*ON_ALL, "ssh trial all setup", "ssh trial all start"]
NONE = ([""], [{}])
READY = (["ACTIVE"], [{"trial": "READY"}])


def test_a_slice_is_asked_for_awaited_set_up_and_started(cloud, repository, tmp_path):
    cloud.be(*NONE, after_create=(["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"], [{"trial": "READY"}]))
    assert _launch("--spot", "--service-account", "s@p", "--train.steps", "9") == 0
    assert cloud.asked == ["create trial", *STARTED]
    create = cloud.call_of("create")
    assert {"--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"} <= set(create)
    assert {"--node-id=trial", "--project=p", "--zone=z", "--service-account=s@p", "--quiet"} <= set(create)
    sent = cloud.call_of("scp")
    assert {"tpu_vm_worker.sh", "settings.sh", "source.tar.gz", "job.json", "--worker=all"} <= set(sent)
    out = tmp_path / "launches/trial"
    with tarfile.open(out / "source.tar.gz") as archive:
        assert archive.getnames() == ["setup.py"]
    copied = ["gcloud", "storage", "cp", "launches/trial/job.json", "gs://b/w/launches/trial.json"]
    assert cloud.programs.calls.index(copied) < cloud.programs.calls.index(create)


def test_slices_of_one_run_are_one_queued_resource(cloud, script):
    both = {"trial-0": "READY", "trial-1": "READY"}
    cloud.be(*NONE, after_create=(["ACTIVE"], [both]))
    assert script("up", "--hardware", "2xv5p-256").returncode == 0
    create = cloud.call_of("create")
    assert {"--accelerator-type=v5p-256", "--node-count=2", "--node-prefix=trial"} <= set(create)
    assert "--spot" not in create
    assert cloud.asked[-2:] == ["ssh trial-0 all start", "ssh trial-1 all start"]


def test_a_slice_that_is_there_is_used_again(cloud, script):
    cloud.be(*READY)
    assert script("up").returncode == 0
    assert cloud.asked == STARTED


@pytest.mark.parametrize(
    ("queue", "nodes"),
    [("SUSPENDED", {}), ("FAILED", {}), ("ACTIVE", {"trial": "PREEMPTED"}), ("ACTIVE", {"trial": "TERMINATED"})],
)
def test_what_was_taken_away_is_made_anew(cloud, script, queue, nodes):
    cloud.be([queue], [nodes])
    assert script("up").returncode == 0
    assert cloud.asked == ["delete trial", "create trial", *STARTED]


def test_a_node_under_repair_is_awaited(cloud, script):
    cloud.be(["ACTIVE"], [{"trial": "REPAIRING"}, {"trial": "REPAIRING"}, {"trial": "READY"}])
    assert script("up").returncode == 0
    assert cloud.asked == STARTED


def test_what_is_not_given_ends_the_launch(cloud, repository, capfd):
    cloud.be(*NONE, after_create=(["ACCEPTED", "FAILED"], [{}]))
    assert _launch() == 1
    assert "trial was not given: FAILED" in capfd.readouterr().err
    assert cloud.asked == ["create trial"]


def test_a_kept_run_goes_on_after_a_preemption_until_it_is_finished(cloud, script):
    running, gone = {"trial": "READY"}, {"trial": "PREEMPTED"}
    # The launch sees it ready; it runs, is asked twice, and then it is gone: seen once by the watch, once by `up`.
    cloud.be(
        ["ACTIVE"],
        [running, running, running, gone],
        workers=["state: running", "state: running\nstate: running", "state: finished\nstate: finished"],
    )
    assert script("keep").returncode == 0
    watched = ["ssh trial all status"] * 2
    again = ["delete trial", "create trial", *STARTED]
    assert cloud.asked == [*STARTED, *watched, *again, "ssh trial all status"]


def test_a_kept_run_survives_a_network_that_fails_and_keeps_its_slice(cloud, script):
    cloud.be(
        ["ACTIVE"], [{"trial": "READY"}, "no answer", "no answer", {"trial": "READY"}], workers=["state: finished"]
    )
    assert script("keep").returncode == 0
    assert cloud.asked == [*STARTED, "ssh trial all status"]


def test_a_kept_run_that_fails_is_started_again_and_bad_input_is_not(cloud, script):
    cloud.be(*READY, workers=["state: failed 1\nstate: running", "state: finished\nstate: finished"])
    assert script("keep").returncode == 0
    assert cloud.asked == [*STARTED, "ssh trial all status", "ssh trial all stop", *STARTED, "ssh trial all status"]
    cloud.be(*READY, workers=["state: failed 2\nstate: running"])
    ended = script("keep")
    assert (ended.returncode, "bad input" in ended.stderr) == (2, True)


def test_a_kept_run_that_fails_again_and_again_is_given_up(cloud, script):
    cloud.be(*READY, workers=["state: failed 1"])
    ended = script("keep", "--hardware", "v5e-16", "--restarts", "2")
    assert (ended.returncode, "given up after 2 restarts" in ended.stderr) == (1, True)
    assert cloud.asked.count("ssh trial all start") == 3


def test_secrets_reach_the_workers_in_a_file_of_their_owner_alone(cloud, repository, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "open 'sesame'")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    cloud.be(*READY)
    assert _launch("--secret", "WANDB_API_KEY") == 0
    [[path, mode, text]] = cloud.state["modes"]
    assert mode == "0o600"
    shown = subprocess.run(["bash", "-c", f'{text}\necho -n "$WANDB_API_KEY"'], capture_output=True, text=True)
    assert shown.stdout == "open 'sesame'"
    assert not Path(path).exists()
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and file.name not in ("cloud.json", "source.tar.gz")]
    written = "".join(file.read_text() for file in kept)
    said = capfd.readouterr()
    assert "sesame" not in written + said.out + said.err


def test_follow_stop_and_delete_go_to_the_right_workers(cloud, script):
    cloud.be(*READY)
    for verb in ("follow", "stop", "delete"):
        assert script(verb).returncode == 0
    assert cloud.asked == ["ssh trial 0 --unit='ellav-trial'", "ssh trial all stop", "delete trial"]
    wrong = script("begin")
    assert (wrong.returncode, wrong.stderr.partition(":")[0]) == (2, "usage")


WORKER_PROGRAMS = ("sudo", "gcsfuse", "systemctl", "mountpoint", "mount", "mount.nfs", "python3")


@pytest.fixture
def worker(generated, tmp_path):
    """`worker(verb, unit="dead", status=0)`: the worker's script, run where only stand-ins are asked. → its output."""
    arguments = [
        "--data",
        "nfs://10.0.0.2/vol1/lh",
        "--env",
        "NOTE=two words",
        "--hardware",
        "v5p-8",
        "--train.steps",
        "9",
    ]
    programs = StandIns(tmp_path / "worker")
    out = tmp_path / "trial"
    out.mkdir()
    for name, text in generated(*arguments).items():
        (out / name).write_text(text)

    def run(verb, unit="dead", status=0):
        for name in WORKER_PROGRAMS:
            programs.add(name)
        programs.add("mountpoint", "sys.exit(1)")
        programs.add("systemctl", f"print('SubState={unit}\\nExecMainStatus={status}')")
        environment = {"PATH": f"{programs.folder}:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "LANG": "C"}
        done = subprocess.run(
            ["bash", out / SCRIPTS[1], verb], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    run.programs = programs
    run.folder = out
    return run


def test_a_worker_mounts_and_starts_the_run_as_a_unit(worker):
    worker("start")
    calls = worker.programs.calls
    mounts = [call for call in calls if call[0] == "gcsfuse"]
    assert [call[-2:] for call in mounts] == [["b", "/mnt/ellav/work"], ["b", "/mnt/ellav/data-0"]]
    assert "--metadata-cache-ttl-secs=0" in mounts[0]
    assert "ro" in mounts[1]
    assert ["sudo", "mount", "-t", "nfs", "-o", "hard,ro", "10.0.0.2:/vol1", "/mnt/ellav/data-1"] in calls
    unit = calls[-1]
    assert unit[:2] == ["sudo", "systemd-run"]
    assert {"--unit=ellav-trial", "--property=RemainAfterExit=yes", "--property=TimeoutStopSec=300"} <= set(unit)
    assert unit[-3:] == ["/bin/bash", "tpu_vm_worker.sh", "run"]


def test_a_worker_that_runs_is_not_started_twice(worker):
    assert worker("start", unit="running") == "it runs already\n"
    assert not any("systemd-run" in call for call in worker.programs.calls)


@pytest.mark.parametrize(
    ("unit", "status", "said"),
    [("running", 0, "running"), ("exited", 0, "finished"), ("failed", 2, "failed 2"), ("dead", 0, "absent")],
)
def test_a_worker_tells_its_state(worker, unit, status, said):
    assert worker("status", unit, status) == f"state: {said}\n"


def test_the_run_has_its_arguments_variables_and_secrets(worker):
    (worker.folder / "secrets.sh").write_text("TOKEN=a\\ b\n")
    program = StandIns(worker.folder / "venv")
    (worker.folder / "venv/bin").mkdir()
    program.add("ellav", "print(os.environ['NOTE'], os.environ['TOKEN'])")
    (worker.folder / "venv/ellav").rename(worker.folder / "venv/bin/ellav")
    assert worker("run") == "two words a b\n"
    data = ["--data", "/mnt/ellav/data-0/ls", "--data", "/mnt/ellav/data-1/lh", "--workdir", "/mnt/ellav/work/w"]
    assert program.calls == [["ellav", "train", "librispeech_pod.gar", *data, "--train.steps", "9"]]


def test_an_experiments_file_is_sent_along(generated, experiments):
    files = generated("--hardware", "v5e-1", experiment=f"{experiments}:gar")
    assert files[experiments.name] == experiments.read_text()
    shown = subprocess.run(
        ["bash", "-c", f"{files['settings.sh']}\necho ${{TRAIN[2]}} ${{FILES[@]}}"], capture_output=True, text=True
    )
    train, *sent = shown.stdout.split()
    assert train == f"./{experiments.name}:gar"
    assert experiments.name in sent


def test_the_scripts_and_the_image_pass_their_lint_tools(generated, tmp_path):
    files = generated("--hardware", "v5e-16", "--env", "NOTE=it's", "--spot")
    scripts = [tmp_path / name for name in (*SCRIPTS, "settings.sh")]
    for script in scripts:
        script.write_text(files[script.name])
        subprocess.run(["bash", "-n", script], check=True)
    subprocess.run([tool("shellcheck"), *scripts], check=True)
    subprocess.run([tool("hadolint"), Path(__file__).parents[3] / "Dockerfile"], check=True)
