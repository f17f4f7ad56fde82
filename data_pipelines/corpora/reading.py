"""What the readers of corpora share: lazy listings, transcripts as files hold them, splits."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_pipelines.corpora.utterance import Corpus, Fault, Utterance
from ellav_jax.errors import InputError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")
USERS_OWN = "unknown (given by the user)"
"""Licence and attribution of a corpus that only its user knows."""


@dataclasses.dataclass(frozen=True)
class LazyUtterances:
    """Utterances that are made anew, in the same order, each time they are iterated."""

    make: Callable[[], Iterator[Utterance]]

    def __iter__(self) -> Iterator[Utterance]:
        return self.make()


def checked(corpus: Corpus, expected: str) -> Corpus:
    """`corpus`, which yields at least one utterance; raises InputError with what was expected when it doesn't."""
    if next(iter(corpus.utterances), None) is None:
        raise InputError(f"corpus {corpus.name}: nothing found; expected {expected}")
    return corpus


def existing_folder(path: str, expected: str) -> Path:
    """The absolute path of a folder that exists; raises InputError otherwise."""
    folder = Path(os.path.abspath(os.path.expanduser(path)))
    if not path or not folder.is_dir():
        found = "is no folder" if path and folder.exists() else "no such folder"
        raise InputError(f"{path or 'the corpus'}: {found}; expected {expected}")
    return folder


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from `folder` down and the names of its files, both sorted; names that begin with a dot are left out.

    Links to folders are followed, but not into a folder that the link stands in.
    """
    pending = [(folder, (os.path.realpath(folder),))]
    while pending:
        here, above = pending.pop()
        files, below = [], []
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                (below if entry.is_dir() else files).append(entry.name)
        yield here, sorted(files)
        for name in sorted(below, reverse=True):
            real = os.path.realpath(here / name)
            if real not in above:
                pending.append((here / name, (*above, real)))


def recordings_by_stem(names: list[str]) -> dict[str, list[str]]:
    """The recordings among a folder's files, by their names without suffix."""
    found: dict[str, list[str]] = {}
    for name in names:
        if is_audio(name):
            found.setdefault(os.path.splitext(name)[0], []).append(name)
    return found


def is_audio(name: str) -> bool:
    """Whether a file's name ends as a recording's does, in small letters or capitals."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def transcript(data: bytes, where: str) -> tuple[str, Fault | None]:
    """The text of a transcript's bytes: one line, without a byte order mark; and why it can't be used, or None."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", Fault("text-encoding", f"{where}: not UTF-8 ({error.reason} at byte {error.start}); convert it")
    # UTF-16 without a byte order mark is UTF-8 too, to a decoder.
    if "\0" in text:
        return "", Fault("text-encoding", f"{where}: holds NUL characters, so it isn't UTF-8; convert it")
    return usable_text(text, where)


def valid_unicode(text: str) -> str:
    """`text` as UTF-8 can hold it: JSON can spell half a surrogate pair, which is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def usable_text(text: str, where: str) -> tuple[str, Fault | None]:
    """`text` with single spaces, and a Fault when nothing is left."""
    text = " ".join(text.split())
    return text, None if text else Fault("text-empty", f"{where}: the transcript is empty")


def text_field(value: Any, where: str) -> tuple[str, Fault | None]:
    """The text in a field of JSON, and why it can't be used, or None."""
    if not isinstance(value, str):
        return "", Fault("text-missing", f"{where}: the text is {json.dumps(value):.40}; expected a string")
    text = valid_unicode(value)
    if text != value or "\0" in text:
        return "", Fault("text-encoding", f"{where}: the text holds what is no character; write it again")
    return usable_text(text, where)


def number_or_none(value: Any) -> float | None:
    """A number of JSON as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def read_transcript(path: Path) -> tuple[str, Fault | None]:
    """`transcript` of a file; one that can't be read (a link to nowhere, no permission) is a missing one."""
    try:
        return transcript(path.read_bytes(), str(path))
    except OSError as error:
        return "", Fault("text-missing", f"{path}: can't be read ({error.strerror})")


def held_out_split(utterance_id: str, test_share: float) -> str:
    """ "test" for about `test_share` of all ids, else "train": a function of the id alone, so it stays when a corpus
    grows. The hash isn't the one that chooses the shard."""
    digest = hashlib.sha256(b"split:" + utterance_id.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


def split_of(name: str) -> str:
    """ "train", "dev" or "test" for a name such as "train-clean-100", "validation" or "test_other"; others as in
    `file_name_part`."""
    for start, split in (("train", "train"), ("dev", "dev"), ("valid", "dev"), ("test", "test")):
        if name.lower().startswith(start):
            return split
    return file_name_part(name)


def file_name_part(name: str) -> str:
    """`name` with a hyphen for whatever can't stand in the name of a split's files."""
    return re.sub(r"[^\w.-]+", "-", name)


def printable(name: str) -> str:
    """A file's name as UTF-8 can hold it: bytes that aren't are written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def name_fault(path: Path) -> Fault | None:
    """A Fault for a file whose name isn't UTF-8: neither a listing nor a data set could name it."""
    shown = printable(str(path))
    return None if shown == str(path) else Fault("audio-unreadable", f"{shown}: the name is not UTF-8; rename the file")
