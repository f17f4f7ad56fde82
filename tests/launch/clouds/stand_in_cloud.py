"""A stand-in of gcloud with a cloud behind it that changes as it is told to."""

import json
from pathlib import Path

import pytest

from tests.launch.stand_ins import StandIns

# A cloud in a file: the queue's states still to come, those of the nodes, and what workers say when they are asked.
CLOUD = """
path = {state!r}
cloud = json.load(open(path))
words = sys.argv[1:]
failed = None
def next_of(name):
    states = cloud[name]
    return states.pop(0) if len(states) > 1 else states[0]
if words[2:4] == ["queued-resources", "list"]:
    state = next_of("queue")
    if state:
        print("trial\\t" + state)
elif words[2:4] == ["tpu-vm", "list"]:
    state = next_of("nodes")
    if state == "no answer":
        failed = "ERROR: no network"
    else:
        for node, one in state.items():
            print(node + "\\t" + one)
elif words[2:4] == ["queued-resources", "create"]:
    cloud["queue"], cloud["nodes"] = cloud["after_create"]
elif words[2:4] == ["queued-resources", "delete"]:
    cloud["queue"], cloud["nodes"] = [""], [{{}}]
elif words[2:4] == ["tpu-vm", "ssh"]:
    command = next(word for word in words if word.startswith("--command="))
    if command.endswith("status"):
        print(next_of("workers"))
elif words[2:4] == ["tpu-vm", "scp"]:
    cloud["modes"] += [[word, oct(os.stat(word).st_mode & 0o777), open(word).read()] for word in words if "secrets" in word]
json.dump(cloud, open(path, "w"))
sys.exit(failed)
"""


class Cloud:
    """The stand-in of gcloud and what it is told to be."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        self.programs = StandIns(tmp_path / "bin")
        self._state = tmp_path / "cloud.json"
        self.programs.add("gcloud", CLOUD.format(state=str(self._state)))
        monkeypatch.setenv("PATH", f"{self.programs.folder}:/usr/bin:/bin")
        monkeypatch.setenv("POLL_SECONDS", "0")
        monkeypatch.chdir(tmp_path)

    def be(self, queue, nodes, workers=("state: running",), after_create=(["ACTIVE"], [{"trial": "READY"}])):
        """What the coming questions are answered with; the last answer stays."""
        state = {"queue": queue, "nodes": nodes, "workers": workers, "after_create": after_create, "modes": []}
        self._state.write_text(json.dumps(state))

    @property
    def state(self):
        return json.loads(self._state.read_text())

    @property
    def asked(self):
        """Calls in short: "create", "ssh trial all setup", …; questions about states are left out."""
        short = []
        for _, *words in self.programs.calls:
            if words[0] != "compute" or words[3] == "list":
                continue
            options = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))
            places = [word for word in words[4:] if not word.startswith("--")]
            line = [words[3], places[-1]]
            if words[3] == "ssh":
                line += [options["worker"], options["command"].split()[-1]]
            short.append(" ".join(line))
        return short

    def call_of(self, verb):
        [call] = [call for call in self.programs.calls if verb in call]
        return call
