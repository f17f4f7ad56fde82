"""A real Slurm of one node, with its own folders, ports and key, that lives as long as the tests that use it."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=60
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """What is missing for a cluster here, or None."""
    if os.getuid() != 0:
        return "a real Slurm is started by root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not on PATH: {', '.join(absent)}; tests/install_slurm.sh installs them" if absent else None


class Cluster:
    """environment: with it, Slurm's programs speak to this cluster."""

    def __init__(self, configuration: Path):
        self.environment = {"SLURM_CONF": str(configuration)}

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs prints. Raises CalledProcessError where it fails."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def job(self, number: str) -> dict[str, str]:
        """Fields of a job."""
        words = self.ask("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.partition("=")[::2] for word in words)

    def wait_for(self, number: str, *states: str, seconds: float = 200) -> dict[str, str]:
        """Waits until the job is in one of these states, and returns its fields. A job that waits to start again, as it
        does for two minutes, is let go after two seconds: the node counts in whole seconds, and ends a job that starts in
        the second in which it was told to end it ("Job credential revoked")."""
        let_go = set()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fields = self.job(number)
            if fields["JobState"] in states:
                return fields
            waits = (fields["JobState"], fields.get("Reason")) == ("PENDING", "BeginTime")
            if waits and fields["Restarts"] not in let_go:
                self.ask("scontrol", "update", f"JobId={number}", "StartTime=now+2")
                let_go.add(fields["Restarts"])
            time.sleep(0.2)
        raise TimeoutError(f"job {number} is {fields['JobState']} ({fields.get('Reason')}), not {' or '.join(states)}")


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Starts the daemons; ends jobs and daemons behind the block. Raises RuntimeError, with their logs, where it doesn't
    come up."""
    # A socket's path may have 107 characters, and pytest's folders are deep.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        with socket.socket() as one, socket.socket() as other:
            for free in (one, other):
                free.bind(("127.0.0.1", 0))
            controller_port, node_port = (free.getsockname()[1] for free in (one, other))
        configuration = folder / "slurm.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().partition(".")[0],
                controller_port=controller_port,
                node_port=node_port,
            )
        )
        places = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
        daemons = (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *places],
            ["slurmctld", "-D", "-f", str(configuration)],
            ["slurmd", "-D", "-f", str(configuration)],
        )
        for daemon in daemons:
            running.enter_context(_daemon(daemon, folder))
            if daemon[0] == "munged":
                _until((folder / "munge.socket").exists, folder)
        cluster = Cluster(configuration)
        _until(lambda: "idle" in _say_or_nothing(cluster, "sinfo", "--noheader", "--format=%T"), folder)
        try:
            yield cluster
        finally:
            cluster.ask("scancel", "--user=root")
            with contextlib.suppress(RuntimeError):  # what is left ends with the daemons
                _until(lambda: not _say_or_nothing(cluster, "squeue", "--noheader").strip(), folder)


@contextlib.contextmanager
def _daemon(command: list[str], folder: Path) -> Iterator[None]:
    with open(folder / f"{command[0]}.said", "w") as said:
        # A session of its own: Ctrl-C in the tests is not for it.
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _say_or_nothing(cluster: Cluster, *command: str) -> str:
    try:
        return cluster.ask(*command)
    except subprocess.CalledProcessError:
        return ""


def _until(condition, folder: Path, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in folder.glob("*.said"))
            raise RuntimeError(f"the cluster is not ready after {seconds:.0f} s\n{logs}")
        time.sleep(0.2)
