"""The source tree that this command runs from: where it is, and which commit."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import configs
from launch.cli import version

SOURCE = Path(configs.__file__).parent.parent


def revision() -> str | None:
    """Git's short name of the commit, with "+" behind it where tracked files differ; None outside of a checkout, or where
    git doesn't tell."""
    commit, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else commit.strip() + ("+" if changes else "")


def source_state() -> dict[str, Any]:
    """`version`, of ellav-jax; `revision`, the whole name of the commit, as `revision` None; `uncommitted`, how many files
    are not as they are in it, new ones too."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "version": version(),
        "revision": commit and commit.strip(),
        "uncommitted": len((changes or "").splitlines()),
    }


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None or not (SOURCE / ".git").exists():
        return None
    # Nothing here must wait for, nor leave, a lock of the index.
    command = ["git", "--no-optional-locks", "-C", str(SOURCE), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"git does not tell the revision ({error})", file=sys.stderr)
        return None
