"""`manifest:FILE.jsonl`: a line of JSON for each utterance, or for each of Lhotse's cuts."""

import functools
import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.corpora.lhotse import cut_utterances, is_cut
from data_pipelines.corpora.options import CorpusOptions
from data_pipelines.corpora.reading import (
    USERS_OWN,
    LazyUtterances,
    checked,
    file_name_part,
    held_out_split,
    number_or_none,
    text_field,
    valid_unicode,
)
from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from ellav_jax.errors import InputError

AUDIO_KEYS = ("audio", "audio_filepath", "path")
"""What the recording may be called, the first that is there is taken: our own format, NeMo's, and a common one."""

_EXPECTED = (
    'a line of JSON for each utterance, {"audio": "a.flac", "text": "…"} with "offset", "duration", "speaker", "id" and '
    '"split" where they apply, or for each of Lhotse\'s cuts'
)


def open_manifest(path: str, options: CorpusOptions) -> Corpus:
    """Utterances of a `.jsonl` or `.jsonl.gz`.

    Own lines: "audio" (or "audio_filepath", "path"), a path relative to the manifest or to `options.audio_root`;
    "offset" and "duration" in seconds, for a part of it; "text"; "speaker"; "id", which is the path without suffix and
    "@offset" where it isn't given; "split", else `options.test_share` decides. Lhotse's lines: see `cut_utterances`.

    A line that is no such thing is yielded as an utterance "FILE:LINE" with its fault, so that it is counted.
    Raises InputError when there is no such file, when its first line is none of these, and, while it is read, for a
    damaged gzip file.
    """
    file = Path(os.path.abspath(os.path.expanduser(path)))
    if not path or not file.is_file():
        raise InputError(f"{path or 'manifest'}: no such file; expected {_EXPECTED}")
    root = file.parent if options.audio_root is None else Path(os.path.abspath(options.audio_root))
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the one that the manifest's paths are relative to")
    _check_first_line(file)
    listing = LazyUtterances(functools.partial(_utterances, file, root, options.test_share))
    return checked(Corpus("manifest", USERS_OWN, USERS_OWN, listing), f"in {file} {_EXPECTED}")


def _check_first_line(file: Path) -> None:
    number, line = next(_lines(file), (1, b""))
    fields, fault = _parse(line)
    why = f"has only the keys {', '.join(map(repr, fields)) or '(none)'}" if fault is None else fault.detail
    if fault is not None or not (is_cut(fields) or any(key in fields for key in AUDIO_KEYS)):
        raise InputError(f"{file}: its first line, {number}, {why}; expected {_EXPECTED}")


def _utterances(file: Path, root: Path, test_share: float) -> Iterator[Utterance]:
    for number, line in _lines(file):
        fields, fault = _parse(line)
        if fault is not None:
            yield _unusable_line(file, number, fault, test_share)
        elif is_cut(fields):
            yield from cut_utterances(fields, root, test_share, f"{file.name}:{number}")
        else:
            yield _utterance(fields, file, root, test_share, number)


def _utterance(fields: dict[str, Any], file: Path, root: Path, test_share: float, number: int) -> Utterance:
    audio = next((fields[key] for key in AUDIO_KEYS if fields.get(key) is not None), None)
    if not isinstance(audio, str) or not audio:
        return _unusable_line(file, number, Fault("audio-missing", "names no recording"), test_share)
    where = f"{file}, line {number}"
    audio = valid_unicode(audio)
    start_s, duration_s = number_or_none(fields.get("offset", 0)), number_or_none(fields.get("duration"))
    text, fault = text_field(fields.get("text"), where)
    for name, value in (("offset", start_s), ("duration", duration_s)):
        if value is None and fields.get(name) is not None:
            fault = Fault("audio-unreadable", f"{where}: {name} is {fields[name]!r:.40}, expected seconds")
    default_id = os.path.splitext(audio)[0] + (f"@{start_s}" if start_s else "")
    utterance_id = valid_unicode(str(fields["id"])) if fields.get("id") is not None else default_id
    speaker, split = fields.get("speaker"), fields.get("split")
    return Utterance(
        id=utterance_id,
        audio=AudioFile(root / audio, start_s or 0.0, duration_s),
        text=text,
        speaker="unknown" if speaker is None else valid_unicode(str(speaker)),
        split=file_name_part(str(split)) if split else held_out_split(utterance_id, test_share),
        fault=fault,
    )


def _unusable_line(file: Path, number: int, fault: Fault, test_share: float) -> Utterance:
    name = f"{file.name}:{number}"
    fault = Fault(fault.kind, f"{file}, line {number} {fault.detail}; expected {_EXPECTED}")
    audio = AudioFile(file.with_name(name))
    return Utterance(name, audio, "", "unknown", held_out_split(name, test_share), fault)


def _parse(line: bytes) -> tuple[dict[str, Any], Fault | None]:
    """The fields of a line, or why there are none."""
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return {}, Fault("text-encoding", f"is not UTF-8 ({error.reason})")
    except (ValueError, RecursionError) as error:
        return {}, Fault("audio-missing", f"is not JSON ({error})")
    return (fields, None) if isinstance(fields, dict) else ({}, Fault("audio-missing", "is no JSON object"))


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of each line that isn't blank."""
    open_file = gzip.open if file.suffix == ".gz" else open
    try:
        with open_file(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cut off, damaged or no gzip file ({error}); copy it again") from None
