"""Pushing by huggingface_hub itself to a server of our own that answers as the hub does and keeps what arrives."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants

from ellav_jax.errors import InputError, RunError
from ellav_jax.export.hub import push

ROOT = Path(__file__).parents[3]
TOKEN = "hf_notatokenofanyone"
LARGE = 100_000
"""Bytes from which the stand-in wants a file through its large file storage."""


class _Hub(ThreadingHTTPServer):
    """A hub with one user, "somebody". repos: name → files; asked: (method, path, what was sent)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos, self.visibility, self.large, self.asked = {}, {}, {}, []
        self.tokens = set()
        self.fails = None  # (part of a path, status, message)


class _Answers(BaseHTTPRequestHandler):
    server: _Hub

    def do_POST(self):
        hub, body = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.asked.append(("POST", self.path, body))
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.fails and hub.fails[0] in self.path:
            return self._answer(hub.fails[1], {"error": hub.fails[2]})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization'] or 'somebody'}/{asked['name']}"
            exists = name in hub.repos
            hub.repos.setdefault(name, {})
            hub.visibility.setdefault(
                name, asked.get("visibility") or ("private" if asked.get("private") else "public")
            )
            return self._answer(409 if exists else 200, {"url": f"{hub.url}/{name}"})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if preupload := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            assert preupload[1] in hub.repos
            modes = [
                {"path": one["path"], "uploadMode": "lfs" if one["size"] > LARGE else "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": modes})
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", self.path):
            actions = {name: {"href": f"{hub.url}/large/{name}"} for name in ("upload", "verify")}
            wanted = [
                one | {"actions": {k: v | {"href": f"{v['href']}/{one['oid']}"} for k, v in actions.items()}}
                for one in json.loads(body)["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": wanted})
        if self.path.startswith("/large/verify/"):
            asked = json.loads(body)
            data = hub.large[asked["oid"]]
            return self._answer(200 if len(data) == asked["size"] else 400, {})
        if commit := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            files = hub.repos[commit[1]]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
            oid = hashlib.sha1(body).hexdigest()
            url = f"{hub.url}/{commit[1]}/commit/{oid}"
            return self._answer(200, {"success": True, "commitOid": oid, "commitUrl": url})
        return self._answer(404, {"error": "the stand-in knows no such address"})

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(("PUT", self.path, data))
        oid = self.path.rsplit("/", 1)[1]
        self.server.large[oid] = data
        self._answer(200 if hashlib.sha256(data).hexdigest() == oid else 400, {})

    def do_GET(self):
        self.server.asked.append(("GET", self.path, b""))
        self._answer(404, {"error": "Repository not found"})

    def _answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    with _Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "export"
    (path / "gar").mkdir(parents=True)
    (path / "README.md").write_text("---\nlibrary_name: transformers\n---\n# A GAR\n")
    (path / "gar" / "config.json").write_text("{}\n")
    (path / "gar" / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    return path


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_process_told_of_a_hub_and_a_token_uploads_all_of_the_folder(hub, folder, tmp_path):
    script = "import pathlib; from ellav_jax.export.hub import push; "
    script += f"print(push(pathlib.Path({str(folder)!r}), 'somebody/gar', True))"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",  # Xet's storage is another protocol; large files go by LFS without it
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{hub.url}/somebody/gar/commit/[0-9a-f]{{40}}\n", done.stdout)
    assert hub.repos == {"somebody/gar": _files(folder)}
    assert hub.visibility == {"somebody/gar": "private"}
    assert [path for method, path, _ in hub.asked if method == "PUT"] == [
        f"/large/upload/{hashlib.sha256((folder / 'gar' / 'model.safetensors').read_bytes()).hexdigest()}"
    ]
    assert any(path.startswith("/large/verify/") for _, path, _ in hub.asked)
    # The token goes to the hub's own addresses and nowhere else.
    assert hub.tokens == {f"Bearer {TOKEN}"}
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert not kept and TOKEN not in done.stdout + done.stderr


def test_a_repository_that_exists_takes_what_is_new_and_keeps_the_rest(hub, folder):
    (folder / "gar" / "model.safetensors").unlink()
    hub.repos["somebody/gar"] = {"notes.md": b"kept", "README.md": b"old"}
    hub.visibility["somebody/gar"] = "public"
    assert push(folder, "gar", private=True).startswith(f"{hub.url}/somebody/gar/commit/")
    assert hub.repos == {"somebody/gar": {"notes.md": b"kept", **_files(folder)}}
    assert hub.visibility == {"somebody/gar": "public"}


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("where", ["/api/repos/create", "/preupload/"])
def test_a_hub_that_refuses_is_told_in_one_line(hub, folder, status, where):
    hub.fails = (where, status, "you may not write here")
    with pytest.raises(InputError) as error:
        push(folder, "other/gar", private=False)
    message = str(error.value)
    assert message.startswith(f"{hub.url} refuses other/gar ({status}: ") and "hf auth whoami" in message
    assert "\n" not in message and TOKEN not in message
    assert not hub.repos.get("other/gar")


def test_a_hub_that_fails_is_told_in_one_line(hub, folder):
    hub.fails = ("/api/repos/create", 500, "no disk is left")
    with pytest.raises(RunError, match=r"failed on somebody/gar: .*500.*no disk is left.*; push again") as error:
        push(folder, "somebody/gar", private=False)
    assert "\n" not in str(error.value)


def test_a_hub_that_is_not_there_is_told_in_one_line(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"was not pushed to http://127.0.0.1:9/somebody/gar: .*refused") as error:
        push(folder, "somebody/gar", private=False)
    assert "\n" not in str(error.value)


def test_without_a_token_nothing_is_asked(hub, folder, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "none either"))
    with pytest.raises(InputError, match="set HF_TOKEN to one that may write, or run `hf auth login`"):
        push(folder, "somebody/gar", private=False)
    assert not hub.asked


def test_names_and_folders_that_cannot_be_are_refused(hub, folder):
    with pytest.raises(InputError, match="'a/b/c' is no name of a repository, expected OWNER/NAME"):
        push(folder, "a/b/c", private=False)
    with pytest.raises(InputError, match="nothing: no such folder to push"):
        push(folder / "nothing", "somebody/gar", private=False)
    assert not hub.asked


def test_the_extra_is_named_where_the_library_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'ellav-jax\[torch\]'"):
        push(folder, "somebody/gar", private=False)
