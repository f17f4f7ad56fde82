"""Whether the processes of a run share their work directory, and all can write in it."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from ellav_jax.errors import InputError
from ellav_jax.files import write_bytes
from launch.processes.meeting import Meeting

FOLDER = ".preflight"
# Network file systems may answer from what they knew a minute ago.
_CACHED = 60
_REMEDY = "--workdir must be one directory of a file system that all of them share"


def check_storage(meeting: Meeting, workdir: Path) -> None:
    """Process 0 writes a word that every other process must read, and each of them a file that process 0 must see; all of
    it is removed. All processes call it. Raises InputError, on all, naming those that can't.
    """
    folder, own = workdir / FOLDER, meeting.place.process_id
    # What a process waits for in vain it must be able to tell within the meeting's own limit.
    limit = min(meeting.timeout / 2, _CACHED)

    def begin() -> str | None:
        if own:
            return None
        if workdir.exists() and not workdir.is_dir():
            raise InputError(f"{workdir}: a file is in the way; --workdir wants a directory")
        word = secrets.token_hex(8)
        with _writing(workdir):
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(_file(folder, 0), word.encode())
        return word

    word = meeting.agree("work directory", begin, lambda words: words[0])

    def follow() -> bool:
        if own == 0:
            return True
        if not _appears(_file(folder, 0), word, limit):
            return False
        with _writing(workdir):
            write_bytes(_file(folder, own), word.encode())
        return True

    def judge(seeing: list[bool]) -> None:
        blind = [process for process, sees in enumerate(seeing) if not sees]
        if blind:
            raise InputError(
                f"{meeting.name(blind)} can't see what {meeting.name([0])} wrote in {workdir} {limit:g} s before; {_REMEDY}"
            )
        deadline = time.monotonic() + limit
        hidden = [
            process
            for process in range(1, len(seeing))
            if not _appears(_file(folder, process), word, deadline - time.monotonic())
        ]
        if hidden:
            raise InputError(
                f"{meeting.name([0])} can't see what {meeting.name(hidden)} wrote in {workdir} {limit:g} s before; {_REMEDY}"
            )

    try:
        meeting.agree("work directory", follow, judge)
    finally:
        if own == 0:
            # Should some of it stay, the next start writes over it.
            with contextlib.suppress(OSError):
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()


def _file(folder: Path, process: int) -> Path:
    return folder / f"process-{process}"


def _appears(path: Path, word: str, limit: float) -> bool:
    deadline = time.monotonic() + limit
    while True:
        # To list a directory has a network file system ask for it again.
        with contextlib.suppress(OSError):
            if path.name in (entry.name for entry in path.parent.iterdir()) and path.read_text() == word:
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)


@contextlib.contextmanager
def _writing(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"can't write in {workdir} ({error.strerror}); --workdir must be a directory that every process can write"
        ) from None
