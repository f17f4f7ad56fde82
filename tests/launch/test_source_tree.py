"""What is known of the source tree."""

import shutil
import subprocess

import pytest

from launch import source_tree
from launch.source_tree import revision, source_state

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Runs git in a folder that is taken for the source tree."""
    monkeypatch.setattr(source_tree, "SOURCE", tmp_path)

    def run(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", tmp_path, *names, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return run


def test_the_commit_is_told_and_what_is_not_in_it(git, tmp_path):
    assert revision() is None
    assert source_state()["revision"] is None
    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert revision() == commit[:12]
    assert (source_state()["revision"], source_state()["uncommitted"]) == (commit, 0)
    (tmp_path / "other").write_text("new")
    assert revision() == commit[:12]
    assert source_state()["uncommitted"] == 1
    (tmp_path / "file").write_text("two")
    assert revision() == commit[:12] + "+"
    assert source_state()["uncommitted"] == 2


def test_a_checkout_that_git_does_not_read_has_no_revision(git, tmp_path, capsys):
    (tmp_path / ".git").write_text("no repository")
    assert revision() is None
    assert source_state()["uncommitted"] == 0
    assert "git does not tell the revision" in capsys.readouterr().err
