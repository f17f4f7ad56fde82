"""`ellav launch slurm`: the script, what it makes of what happens to a job, and what is told ahead of submission."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ellav_jax.errors import InputError
from launch import cli
from launch.slurm import submit as slurm_submit
from launch.slurm.follow import follow
from launch.slurm.options import seconds_of
from launch.slurm.script import CORES, SCRATCH, Container, Script
from tests.launch.stand_ins import StandIns, tool

# Eight GPUs a node on two nodes, and all that can be said about them.
MANY = (
    *("--nodes", "2", "--gpus-per-node", "h100:8", "--cpus-per-task", "12", "--memory", "0", "--time", "1-12:00:00"),
    *(
        "--account",
        "speech",
        "--partition",
        "gpu",
        "--qos",
        "long",
        "--constraint",
        "nvlink",
        "--sbatch",
        "reservation=R",
    ),
)
# srun runs its tasks' command here, once; what it asks the cluster is in a file.
SRUN = """
import subprocess
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
sys.exit(subprocess.run(words).returncode)
"""
SCANCEL = "open({told!r}, 'w').close()"
SQUEUE = "print({state!r})"


@pytest.fixture
def generate(capsys, tmp_path, monkeypatch):
    """`generate(experiment, *arguments)`: the script of a dry run, which asks no tool."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")

    def script(experiment, *arguments):
        places = [] if experiment == "prepare" else ["--data", "ls:0.5", "--data", "/d/vctk:0.5", "--workdir", "w"]
        assert cli.main(["launch", "slurm", experiment, *places, *arguments, "--dry-run"]) == 0
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().out.partition("/job.sh\n")[2].partition("/job.json\n")[0]

    return script


def _options(text):
    """Options of sbatch, as it reads them."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return {name: shlex.split(value)[0] if value else "" for name, _, value in (line.partition("=") for line in lines)}


def _array(text, name, **environment):
    """Words of an array of the script, as a node's shell reads it."""
    assignments = "".join(line + "\n" for line in text.splitlines() if line.startswith((f"{name}=", "SCRATCH=")))
    command = f"{assignments}printf '%s\\0' \"${{{name}[@]}}\""
    done = subprocess.run(["/bin/bash", "-c", command], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


def test_options_are_sbatchs_and_a_process_is_started_for_each_gpu(generate, tmp_path):
    text = generate("librispeech.gar", *MANY, "--env", "NCCL_DEBUG=INFO all", "--train.steps", "500")
    assert _options(text) == {
        "job-name": "librispeech-gar",
        "output": f"{tmp_path}/launches/librispeech-gar/slurm-%j.log",
        "open-mode": "append",
        "chdir": str(tmp_path),
        "nodes": "2",
        "ntasks-per-node": "8",
        "gpus-per-node": "h100:8",
        "cpus-per-task": "12",
        "mem": "0",
        "time": "1-12:00:00",
        "account": "speech",
        "partition": "gpu",
        "qos": "long",
        "constraint": "nvlink",
        "signal": "B:USR1@300",
        "requeue": "",
        "reservation": "R",
    }
    run = _array(text, "RUN")
    assert run[:7] == [
        *("srun", "--ntasks=16", "--ntasks-per-node=8", "--kill-on-bad-exit=0", "--wait=60", "--label"),
        "--cpus-per-task=12",
    ]
    assert run[7:] == [
        *(str(Path(sys.prefix) / "bin/ellav"), "train", "librispeech.gar"),
        *("--data", f"{tmp_path}/ls:0.5", "--data", "/d/vctk:0.5", "--workdir", f"{tmp_path}/w", "--distributed"),
        *("--train.steps", "500"),
    ]
    assert "export NCCL_DEBUG='INFO all'\n" in text
    assert "JAX_LOCAL_DEVICE_IDS" not in text


def test_a_process_of_a_node_is_told_that_all_gpus_are_its_own(generate):
    text = generate("librispeech.gar", *MANY, "--tasks-per-node", "1", "--no-requeue")
    assert "export JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7\n" in text
    assert "REQUEUE=no\n" in text
    assert {"no-requeue", "requeue"} & set(_options(text)) == {"no-requeue"}


def test_a_process_alone_joins_nobody_and_an_experiments_file_is_the_copy(generate, experiments, tmp_path):
    run = _array(generate(f"{experiments}:gar"), "RUN")
    assert f"{tmp_path}/launches/small-gar/small.py:gar" in run
    assert not {"--distributed", "--label"} & set(run)


def test_data_is_read_from_the_scratch_folder_whose_name_the_node_knows(generate, tmp_path):
    text = generate("librispeech.gar", *MANY, "--scratch", "/local/$USER")
    node = {"USER": "me", "SLURM_JOB_ID": "7"}
    folder = "/local/me/ellav-7"
    run = _array(text, "RUN", **node)
    assert [f"{folder}/data-0:0.5", f"{folder}/data-1:0.5"] == [run[i + 1] for i, w in enumerate(run) if w == "--data"]
    copy = _array(text, "COPY", **node)
    assert copy[:4] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert copy[-3:] == [folder, f"{tmp_path}/ls", "/d/vctk"]
    assert _array(text, "CLEAR", **node)[-3:] == ["rm", "-rf", folder]


def test_a_container_sees_what_the_run_uses(generate, tmp_path):
    text = generate("librispeech.gar", *MANY, "--image", "r/ellav:cuda12")
    used = [f"{tmp_path}/ls", "/d/vctk", f"{tmp_path}/w", f"{tmp_path}/launches/librispeech-gar"]
    run = _array(text, "RUN")
    assert "--container-image=r/ellav:cuda12" in run
    assert f"--container-mounts={','.join(f'{place}:{place}' for place in used)}" in run
    assert "/opt/ellav/bin/ellav" in run
    run = _array(generate("librispeech.gar", *MANY, "--image", "e.sif", "--container", "apptainer"), "RUN")
    binds = [word for place in used for word in ("--bind", place)]
    start = run.index("apptainer")
    assert run[start : run.index("train")] == ["apptainer", "exec", "--nv", *binds, "e.sif", "/opt/ellav/bin/ellav"]


def test_prepare_gets_a_node_and_a_worker_a_core(generate):
    text = generate("prepare", "librispeech:ls", "out", "--shards", "64", "--name", "libri")
    assert {"exclusive", "nodes"} <= set(_options(text))
    run = _array(text, "RUN", SLURM_CPUS_ON_NODE="96")
    assert "--cpus-per-task=96" in run
    assert run[-7:] == ["prepare", "librispeech:ls", "out", "--shards", "64", "--workers", "96"]
    text = generate("prepare", "librispeech:ls", "out", "--cpus-per-task", "8", "--workers", "4")
    assert "exclusive" not in _options(text)
    assert _array(text, "RUN")[-5:] == ["prepare", "librispeech:ls", "out", "--workers", "4"]


def test_each_job_of_an_array_prepares_a_part_and_is_named_by_its_number(generate, tmp_path):
    arguments = ("librispeech:ls", "out", "--strict", "--array", "7")
    text = generate("prepare", *arguments)
    options = _options(text.partition("/last.sh\n")[0])
    assert (options["array"], options["output"]) == ("1-7", f"{tmp_path}/launches/prepare-data/slurm-%A_%a.log")
    assert {"exclusive", "requeue"} <= set(options)
    job, last = text.split("/last.sh\n")
    node = {"SLURM_CPUS_ON_NODE": "96", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "42"}
    assert _array(job, "RUN", **node)[-7:] == ["prepare", "librispeech:ls", "out", "--workers", "96", "--part", "3/7"]
    assert _array(last, "RUN", **node)[-6:] == ["prepare", "librispeech:ls", "out", "--strict", "--workers", "96"]
    assert "array" not in _options(last)
    # The number of the array alone is that of all its jobs: none of them may signal or requeue the others.
    assert "JOB=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\n" in job
    assert "JOB=$SLURM_JOB_ID\n" in last
    assert "$SLURM_JOB_ID" not in job


def test_scripts_pass_bash_and_shellcheck(generate, tmp_path):
    texts = [
        generate("librispeech.gar"),
        generate(
            "librispeech.gar", *MANY, "--image", "r/e:1", "--scratch", "$TMPDIR", "--env", "A='\"$b", "--name", "x"
        ),
        generate("prepare", "bundled", "out"),
        generate("prepare", "bundled", "out", "--array", "2").partition("\n# /")[0],
    ]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.sh"
        path.write_text(text)
        subprocess.run(["/bin/bash", "-n", path], check=True)
        subprocess.run([tool("shellcheck"), path], check=True, env={**os.environ, "PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize(
    ("time_limit", "seconds"),
    [("5", 300), ("5:30", 330), ("1:00:00", 3600), ("2-3", 183600), ("1-0:30", 88200), ("1-2:03:04", 93784)],
)
def test_time_limits_are_read_as_slurm_reads_them(time_limit, seconds):
    assert seconds_of(time_limit) == seconds


@pytest.mark.parametrize("time_limit", ["", "2h", "1:2:3:4", "1-", "-5", "tomorrow", "1.5"])
def test_other_time_limits_are_refused(time_limit):
    with pytest.raises(InputError, match="--time"):
        seconds_of(time_limit)


PLACES = ("--data", "d", "--workdir", "w")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "wants the experiment first"),
        (("librispech.gar", *PLACES), "near it: librispeech.gar"),
        (("librispeech.gar", "--workdir", "w"), "no data set"),
        (("librispeech.gar", *PLACES, "--time", "2h"), "--time 2h: expected MINUTES"),
        (("librispeech.gar", *PLACES, "--time", "5"), "which leaves nothing"),
        (("librispeech.gar", *PLACES, "--gpus-per-node", "many"), "--gpus-per-node many"),
        (("librispeech.gar", *PLACES, "--gpus-per-node", "8", "--tasks-per-node", "4"), "--tasks-per-node 4"),
        (("librispeech.gar", *PLACES, "--nodes", "0"), "--nodes 0: expected at least 1"),
        (("librispeech.gar", *PLACES, "--gpus-per-node", "8", "--mesh.fsdp", "3"), "does not fit 8 devices (gpu-8)"),
        (("librispeech.gar", *PLACES, "--gpus-per-node", "NVIDIA_H100:8", "--mesh.fsdp", "3"), "(h100-8)"),
        (("librispeech.gar", *PLACES, "--nodes", "7"), "does not divide over 7 devices"),
        (("librispeech.gar", *PLACES, "--distributed"), "set by ellav launch"),
        (("librispeech.gar", *PLACES, "--venv", "/nowhere"), "--venv /nowhere: it has no bin/ellav"),
        (("librispeech.gar", *PLACES, "--venv", "v", "--image", "i"), "--image and --venv"),
        (("librispeech.gar", *PLACES, "--scratch", "a b"), "--scratch a b"),
        (("librispeech.gar", *PLACES, "--sbatch=--x"), "--sbatch --x: expected NAME=VALUE"),
        (("librispeech.gar", *PLACES, "--sbatch", "time=5"), "--time is set by ellav launch"),
        (("librispeech.gar", *PLACES, "--secret", "ABSENT"), "the environment has no ABSENT"),
        (("librispeech.gar", *PLACES), "sbatch is not on PATH"),
        (("prepare", "bundled", "out", "--nodes", "2"), "one command on one node"),
        (("prepare", "bundled", "out", "--array", "1"), "--array 1: expected at least 2 parts"),
        (("prepare", "bundled", "out", "--array", "2", "--part", "1/2"), "--part left out"),
        (("prepare", "bundled", "out", "--array", "2", "--sbatch", "array=1-3"), "--array is set by ellav launch"),
        (("prepare", "bundled", "out", "--engine", "beam"), "--engine beam"),
        (("prepare", "bundled", "out"), "sbatch is not on PATH"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["launch", "slurm", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins of Slurm's programs; sbatch takes every job as number 42."""
    programs = StandIns(tmp_path / "bin")
    programs.add("sbatch", "'--parsable' in sys.argv and print('42;cluster')")
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return programs


def _launch(experiments, data, *arguments):
    places = ["--data", str(data), "--workdir", "w", "--name", "trial", "--train.steps", "5"]
    return cli.main(["launch", "slurm", f"{experiments}:gar", *places, *arguments])


def test_a_job_is_tested_submitted_and_described(cluster, experiments, prepared_bundled, tmp_path, capfd):
    assert _launch(experiments, prepared_bundled, "--no-follow", "--env", "A=b") == 0
    script = f"{tmp_path}/launches/trial/job.sh"
    assert cluster.calls == [["sbatch", "--test-only", script], ["sbatch", "--parsable", script]]
    job = json.loads((tmp_path / "w/launches/trial.json").read_text())
    assert job == json.loads((tmp_path / "launches/trial/job.json").read_text())
    assert (job["target"], job["overrides"], job["environment"]) == ("slurm", ["--train.steps", "5"], {"A": "b"})
    assert (tmp_path / "launches/trial/small.py").read_text() == experiments.read_text()
    said = capfd.readouterr().err
    assert "stop:   scancel --batch --signal=USR2 42" in said
    assert f"follow: tail -F {tmp_path}/launches/trial/slurm-42.log" in said


def test_the_last_job_waits_for_the_array(cluster, tmp_path, capfd):
    assert cli.main(["launch", "slurm", "prepare", "bundled", "out", "--array", "3", "--no-follow"]) == 0
    jobs, last = (f"{tmp_path}/launches/prepare-data/{name}.sh" for name in ("job", "last"))
    assert cluster.calls == [
        ["sbatch", "--test-only", jobs],
        ["sbatch", "--test-only", last],
        ["sbatch", "--parsable", jobs],
        ["sbatch", "--parsable", "--kill-on-invalid-dep=yes", "--dependency=afterok:42", last],
    ]
    assert f"follow: tail -F {tmp_path}/launches/prepare-data/slurm-42_*.log" in capfd.readouterr().err


def test_where_the_last_job_is_not_taken_the_array_is_named(cluster, capsys):
    cluster.add("sbatch", "sys.exit('no more') if '--kill-on-invalid-dep=yes' in sys.argv else print(42)")
    assert cli.main(["launch", "slurm", "prepare", "bundled", "out", "--array", "3"]) == 1
    assert "no more; job 42 is submitted already: scancel 42" in capsys.readouterr().err


def test_a_job_that_slurm_does_not_take_is_not_submitted(cluster, experiments, prepared_bundled, capsys):
    cluster.add("sbatch", "sys.exit('allocation failure: Invalid account')")
    assert _launch(experiments, prepared_bundled, "--account", "nobody") == 2
    assert "(sbatch: allocation failure: Invalid account)" in capsys.readouterr().err
    assert len(cluster.calls) == 1


def test_absent_data_and_a_work_directory_that_cannot_be_made_are_told_first(
    cluster, experiments, prepared_bundled, tmp_path, capsys
):
    assert _launch(experiments, tmp_path / "absent") == 2
    assert f"{tmp_path}/absent" in capsys.readouterr().err
    (tmp_path / "w").write_text("a file")
    assert _launch(experiments, prepared_bundled) == 2
    assert f"--workdir {tmp_path}/w: it can't be written" in capsys.readouterr().err
    assert not cluster.calls


STATES = """
states = json.load(open({path!r}))
state, code = states.pop(0)
json.dump(states, open({path!r}, "w"))
print(f"JobId=42 JobName=trial JobState={{state}} Reason=None Restarts=0 ExitCode={{code}}:0 Comment=(a b)")
"""


@pytest.fixture
def states(cluster, tmp_path):
    """`states((state, exit status), …)`: what Slurm answers, in this order, about the job; its log is there."""

    def answer(*states):
        path = tmp_path / "states.json"
        path.write_text(json.dumps(states))
        cluster.add("scontrol", STATES.format(path=str(path)))
        log = tmp_path / "slurm-42.log"
        log.write_text("step 1\nstep 2\n")
        return log

    return answer


def test_following_outlives_the_queue_and_ends_with_the_job(states, capsys):
    log = states(("PENDING", 0), ("RUNNING", 0), ("PENDING", 0), ("RUNNING", 0), ("COMPLETED", 0))
    follow("42", log, poll_seconds=0)
    said = capsys.readouterr()
    assert said.out == "step 1\nstep 2\n"
    assert [line.split()[-1] for line in said.err.splitlines()] == [
        *("PENDING", "RUNNING", "PENDING", "RUNNING", "COMPLETED"),
    ]


def test_following_tells_bad_input_from_failure(states):
    with pytest.raises(InputError, match="job 42 ended over bad input"):
        follow("42", states(("FAILED", 2)), poll_seconds=0)
    with pytest.raises(Exception, match="job 42 is FAILED with status 1"):
        follow("42", states(("FAILED", 1)), poll_seconds=0)
    with pytest.raises(Exception, match="job 42 is TIMEOUT"):
        follow("42", states(("TIMEOUT", 0)), poll_seconds=0)


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(cluster, experiments, prepared_bundled, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm_submit, "follow", interrupted)
    assert _launch(experiments, prepared_bundled) == 0
    assert "job 42 goes on\nfollow: tail -F" in capsys.readouterr().err


class Job:
    """A job's script on a node whose srun runs one task, and what it asks of the cluster."""

    def __init__(self, tmp_path, programs):
        self.programs, self._folder = programs, tmp_path
        self._told = tmp_path / "told to stop"
        programs.add("srun", SRUN)
        programs.add("scancel", SCANCEL.format(told=str(self._told)))
        programs.add("scontrol")
        self.be("RUNNING")

    def be(self, state):
        self.programs.add("squeue", SQUEUE.format(state=state))

    def start(self, task, requeue=True, restarts=3, restarted=0, **parts):
        """The script with this shell command as its task; "$TOLD" is there when the tasks are told to stop."""
        path = self._folder / "job.sh"
        command = ["bash", "-c", task]
        script = Script({}, self._folder, 1, 1, None, command, {"TOLD": str(self._told)}, requeue, restarts, **parts)
        path.write_text(script.text())
        environment = {**os.environ, "SLURM_JOB_ID": "42", "SLURM_RESTART_COUNT": str(restarted)}
        with open(self._folder / "slurm-42.log", "a") as log:
            return subprocess.Popen(["bash", path], env=environment, stdout=log, stderr=log)

    def run(self, task, **options):
        """Its exit status, and whether it went back into the queue."""
        status = self.start(task, **options).wait(30)
        return status, ["scontrol", "requeue", "42"] in self.programs.calls


@pytest.fixture
def job(tmp_path, cluster):
    return Job(tmp_path, cluster)


@pytest.mark.parametrize(
    ("status", "options", "ends", "requeued"),
    [
        (0, {}, 0, False),
        (2, {}, 2, False),
        (130, {}, 0, True),  # a preemption with time to save
        (143, {}, 0, True),
        (130, {"requeue": False}, 130, False),
        (1, {}, 0, True),
        (1, {"restarted": 3}, 1, False),
        (137, {"restarts": 0}, 137, False),
    ],
)
def test_what_becomes_of_a_job_whose_run_has_ended(job, status, options, ends, requeued):
    assert job.run(f"exit {status}", **options) == (ends, requeued)


def test_a_job_that_is_being_cancelled_does_not_come_back(job):
    job.be("COMPLETING")
    assert job.run("exit 130") == (130, False)


def test_bad_input_of_one_task_counts_whatever_srun_ends_with(job, tmp_path):
    line = "srun: error: node7: tasks 0-3,5: Exited with exit code {status}"
    log = tmp_path / "slurm-42.log"
    log.write_text(line.format(status=2) + "\n")  # of an earlier start
    assert job.run(f"echo '{line.format(status=1)}'; exit 137") == (0, True)
    assert job.run(f"echo '{line.format(status=2)}'; exit 137")[0] == 2
    assert log.read_text().endswith("bad input, which another start does not mend\n")


@pytest.mark.parametrize(
    ("number", "ends", "requeued"), [(signal.SIGUSR1, 0, True), (signal.SIGUSR2, 130, False)], ids=["limit", "stop"]
)
def test_tasks_are_told_to_stop_and_waited_for(job, tmp_path, number, ends, requeued):
    ready = tmp_path / "ready"
    task = f'touch {shlex.quote(str(ready))}; while [[ ! -e "$TOLD" ]]; do sleep 0.05; done; sleep 0.3; exit 130'
    process = job.start(task)
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(30)
    calls = job.programs.calls
    assert ["scancel", "--signal=TERM", "42"] in calls
    assert (process.returncode, ["scontrol", "requeue", "42"] in calls) == (ends, requeued)


def test_data_is_copied_first_and_cleared_behind(job, tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "dataset.json").write_text("{}")
    local = tmp_path / "local"
    task = f"ls {local}/ellav-42/data-0 > {tmp_path}/seen"
    assert job.run(task, scratch=str(local), copied=[str(tmp_path / "a b")])[0] == 0
    assert (tmp_path / "seen").read_text() == "dataset.json\n"
    assert not list(local.iterdir())
    assert job.run("exit 0", scratch=str(local), copied=[str(tmp_path / "absent")], restarts=0) == (1, False)


def test_words_of_a_command_reach_the_task_as_they_are():
    words = ["it's", "", "a b", "$HOME", "é", f"{SCRATCH}/x y", f"--n={CORES}"]
    text = Script({}, Path("/o"), 1, 1, None, words, {}, True, 0, Container("apptainer", "i", ()), "/s").text()
    run = _array(text, "RUN", SLURM_JOB_ID="1", SLURM_CPUS_ON_NODE="4")
    assert run[-7:] == ["it's", "", "a b", "$HOME", "é", "/s/ellav-1/x y", "--n=4"]
