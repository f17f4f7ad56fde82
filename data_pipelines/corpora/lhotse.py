"""Lhotse's cuts, as `CutSet.to_file` writes them a line each (LibriHeavy's manifests among them)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.corpora.reading import held_out_split, number_or_none, text_field, valid_unicode
from data_pipelines.corpora.utterance import AudioFile, Fault, Utterance


def is_cut(fields: dict[str, Any]) -> bool:
    """Whether a line is one of Lhotse's cuts, of whatever kind."""
    return str(fields.get("type", "")).endswith("Cut") or "supervisions" in fields


def cut_utterances(cut: dict[str, Any], root: Path, test_share: float, line: str) -> Iterator[Utterance]:
    """The utterances of a cut: one for each of its supervisions, with that part of the recording; `line` names the line.

    Paths are relative to `root`. The id is the cut's, or, where it has several supervisions, the supervision's. The text
    is the supervision's, or the first of `custom.texts` (LibriHeavy's, with case and punctuation).

    A cut that isn't a plain part of one channel of a file (mixed, padded, of several channels, speed changed, from a
    command or an archive), or has no supervision, is yielded with its fault.
    """
    supervisions = cut.get("supervisions") or []
    if not isinstance(supervisions, list) or not all(isinstance(one, dict) for one in supervisions):
        supervisions, broken = [], Fault("text-missing", f"{line}: supervisions are no list of objects")
    else:
        broken = (
            None if supervisions else Fault("text-missing", f"{line}: the cut has no supervision, so no transcript")
        )
    source, fault = _source(cut, line)
    for one in supervisions or [{}]:
        start_s, duration_s, bad_time = _times(cut, one, line)
        text, bad_text = _text(one, line)
        ids = (one.get("id"), cut.get("id")) if len(supervisions) > 1 else (cut.get("id"), one.get("id"))
        utterance_id = valid_unicode(str(next((name for name in ids if name not in (None, "")), line)))
        speaker = one.get("speaker")
        yield Utterance(
            id=utterance_id,
            audio=AudioFile(root / source, start_s, duration_s),
            text=text,
            speaker="unknown" if speaker is None else valid_unicode(str(speaker)),
            split=held_out_split(utterance_id, test_share),
            fault=fault or broken or bad_time or bad_text,
        )


def _source(cut: dict[str, Any], line: str) -> tuple[str, Fault | None]:
    """The path of the file that a cut is taken from; the name of the line where there is none that can be used."""
    recording = cut.get("recording")
    if cut.get("type", "MonoCut") != "MonoCut":
        return line, Fault("audio-unreadable", f"{line}: a {cut['type']!s:.20}; expected a MonoCut of a file")
    sources = recording.get("sources") if isinstance(recording, dict) else None
    if not isinstance(sources, list) or not sources:
        return line, Fault("audio-missing", f"{line}: the cut holds no recording; expected one with its sources")
    source = sources[0] if len(sources) == 1 and isinstance(sources[0], dict) else {}
    path = source.get("source")
    if source.get("type") != "file" or not isinstance(path, str) or not path:
        kinds = ", ".join(str(one.get("type")) if isinstance(one, dict) else "?" for one in sources)
        return line, Fault("audio-unreadable", f"{line}: sources of type {kinds:.60}; expected one, of type file")
    path = valid_unicode(path)
    if source.get("channels", [0]) != [0] or cut.get("channel", 0) != 0:
        return path, Fault("audio-unreadable", f"{line}: a recording of several channels; expected one")
    if recording.get("transforms"):
        return path, Fault(
            "audio-unreadable", f"{line}: the recording has transforms (as of speed); expected it as it is"
        )
    return path, None


def _times(cut: dict[str, Any], supervision: dict[str, Any], line: str) -> tuple[float, float | None, Fault | None]:
    """Start and duration (s) in the recording. A supervision counts from the beginning of its cut."""
    values = [
        number_or_none(value)
        for value in (
            cut.get("start", 0),
            supervision.get("start", 0),
            supervision.get("duration", cut.get("duration")),
        )
    ]
    if None in values:
        return 0.0, None, Fault("audio-unreadable", f"{line}: start or duration are no numbers; expected seconds")
    cut_start, start, duration = values
    # Differences of rounded times may come out a hair below 0; and 3.3000000000000003 is 3.3.
    total = round(cut_start + start, 6)
    return (0.0 if -0.01 < total < 0 else total), duration, None


def _text(supervision: dict[str, Any], line: str) -> tuple[str, Fault | None]:
    text, custom = supervision.get("text"), supervision.get("custom")
    if text is None and isinstance(custom, dict):
        texts = custom.get("texts")
        text = texts[0] if isinstance(texts, list) and texts else None
    return text_field(text, line)
