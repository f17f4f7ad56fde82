"""Files that are whole or not there: written under a temporary name, then renamed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ellav_jax.errors import InputError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` on success, removes it on any failure."""
    path = Path(path)
    # Random, because processes of several machines may write the same file at the same time.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path` atomically and flushes it to the disk."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented UTF-8 JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str | Path, what: str) -> Any:
    """Reads a JSON file; `what` names it in the error ("data set description").

    Raises InputError when the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: the {what} is not valid JSON ({error}); restore or rebuild it") from None


def take_lock(path: str | Path, taken: str) -> IO[bytes]:
    """Opens `path` and locks it until it is closed, or the process dies, however it dies. Raises InputError(taken) when
    another process holds the lock."""
    file = open(path, "wb")  # noqa: SIM115 - held until the caller closes it
    try:
        locked = try_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    if not locked:
        file.close()
        raise InputError(taken)
    return file


def try_lock(file: IO[bytes], kind: int) -> bool:
    """Whether the open file has this lock of flock now. What can't lock (some network file systems) protects nothing; on NFS
    a shared lock needs a file opened for reading, an exclusive one a file opened for writing."""
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def sha256_of_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
