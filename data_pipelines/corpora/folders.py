"""`folder:DIR`: recordings beside their transcripts, a folder for each speaker, as MFA lays its corpora out."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.corpora.options import CorpusOptions
from data_pipelines.corpora.reading import (
    AUDIO_SUFFIXES,
    USERS_OWN,
    LazyUtterances,
    existing_folder,
    held_out_split,
    is_audio,
    name_fault,
    printable,
    read_transcript,
    recordings_by_stem,
    split_of,
    walk,
)
from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from ellav_jax.errors import InputError

TRANSCRIPTS = (".lab", ".txt")
"""What a transcript may be called, the first that is there is taken."""

_EXPECTED = f"recordings ({' '.join(AUDIO_SUFFIXES)}) at any depth, each beside a .lab or .txt of the same name"


def open_folder(path: str, options: CorpusOptions) -> Corpus:
    """The recordings below a folder, at any depth, each beside a `.lab` or `.txt` of the same name.

    The id is the path below the folder without its suffix ("anna/0001"). The speaker is the name of the folder that the
    file stands in. When all folders in DIR are called train, dev, valid, validation or test, and there is a train, they
    are the splits; else `options.test_share` decides. A recording without a transcript, and a transcript without a
    recording, are yielded with their fault.

    Raises InputError when there is no such folder, or nothing in it.
    """
    root = existing_folder(path, f"a folder with {_EXPECTED}")
    if not any(is_audio(name) for _, names in walk(root) for name in names):
        raise InputError(f"{root}: there is no recording in it; expected {_EXPECTED}")
    listing = LazyUtterances(functools.partial(_utterances, root, options.test_share))
    return Corpus("folder", USERS_OWN, USERS_OWN, listing)


def _utterances(root: Path, test_share: float) -> Iterator[Utterance]:
    own_splits = _has_own_splits(root)
    for folder, names in walk(root):
        below = folder.relative_to(root).parts
        speaker = printable(root.name if below[own_splits:] == () else folder.name)
        for stem, name, text_name in _pairs(names):
            utterance_id = printable("/".join((*below, stem)))
            if own_splits and below:
                split = split_of(below[0])
            else:
                split = held_out_split(utterance_id, test_share)
            text, fault = "", None
            if name is None:
                wanted = ", ".join(AUDIO_SUFFIXES)
                fault = Fault("audio-missing", f"{folder / text_name}: no recording beside it ({stem} with {wanted})")
            elif text_name is None:
                wanted = " or ".join(TRANSCRIPTS)
                fault = Fault("text-missing", f"{folder / name}: no transcript beside it ({stem} with {wanted})")
            else:
                text, fault = read_transcript(folder / text_name)
            audio = folder / (name or stem)
            fault = name_fault(audio) or fault
            yield Utterance(utterance_id, AudioFile(Path(printable(str(audio)))), text, speaker, split, fault)


def _has_own_splits(root: Path) -> bool:
    names = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return "train" in names and names <= {"train", "dev", "valid", "validation", "test"}


def _pairs(names: list[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """Stem, recording and transcript of each utterance of a folder, in the order of the stems.

    Two recordings of one stem are two utterances of one id: the second is set aside as such.
    """
    recordings = recordings_by_stem(names)
    texts: dict[str, dict[str, str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in TRANSCRIPTS:
            texts.setdefault(stem, {})[suffix.lower()] = name
    for stem in sorted(recordings.keys() | texts.keys()):
        found = texts.get(stem, {})
        text = next((found[suffix] for suffix in TRANSCRIPTS if suffix in found), None)
        for recording in recordings.get(stem, [None]):
            yield stem, recording, text
