"""`librispeech:DIR`: LibriSpeech, LibriTTS and LibriTTS-R as they are unpacked."""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.corpora.options import CorpusOptions
from data_pipelines.corpora.reading import (
    LazyUtterances,
    checked,
    existing_folder,
    is_audio,
    name_fault,
    printable,
    read_transcript,
    recordings_by_stem,
    split_of,
    transcript,
    walk,
)
from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from ellav_jax.errors import InputError

_INSIDE = ("LibriSpeech", "LibriTTS", "LibriTTS_R")
_SPLIT = re.compile(r"(train|dev|test)-")
_TEXTS = (".normalized.txt", ".original.txt")
_EXPECTED = "train-clean-100 and the like, with SPEAKER/CHAPTER/*.flac (or .wav) and their transcripts"
_ATTRIBUTION = {
    True: "LibriSpeech (Panayotov et al., 2015), from LibriVox recordings in the public domain; openslr.org/12",
    False: "LibriTTS (Zen et al., 2019) or LibriTTS-R (Koizumi et al., 2023), from LibriVox recordings; openslr.org/60, 141",
}


def open_librispeech(path: str, options: CorpusOptions) -> Corpus:
    """LibriSpeech (`*.trans.txt`) or LibriTTS (`*.normalized.txt`, else `*.original.txt`).

    `path` is the folder that holds the splits (train-clean-100, dev-other …), or one split; LibriSpeech/, LibriTTS/ and
    LibriTTS_R/ inside it are found. The id is the file's stem, the speaker the folder below the split; the split is the
    word ahead of the first hyphen. LibriSpeech's transcripts are lower-cased: all their words are written out as spoken,
    but in capitals "I'LL" and "TSK" pass for initials.

    Raises InputError when there is no such folder, or it is laid out otherwise.
    """
    root = existing_folder(path, f"a folder with {_EXPECTED}")
    splits = _split_folders(root)
    corpus = Corpus("librispeech", "CC BY 4.0", "", LazyUtterances(functools.partial(_utterances, splits)))
    checked(corpus, f"in {splits[0]} SPEAKER/CHAPTER/*.flac or *.wav")
    names = next((names for folder in splits for _, names in walk(folder) if any(map(is_audio, names))), None)
    if names is None:
        raise InputError(f"{root}: no recordings, .flac or .wav, below {splits[0]}; expected {_EXPECTED}")
    is_librispeech = _has_trans(names)
    return Corpus(corpus.name, corpus.licence, _ATTRIBUTION[is_librispeech], corpus.utterances)


def _split_folders(root: Path) -> list[Path]:
    for base in (root, *(root / name for name in _INSIDE)):
        if base.is_dir():
            found = sorted(child for child in base.iterdir() if child.is_dir() and _SPLIT.match(child.name))
            if found:
                return found
    if _SPLIT.match(root.name):
        return [root]
    raise InputError(f"{root}: not laid out as LibriSpeech or LibriTTS; expected a folder with {_EXPECTED}")


def _has_trans(names: list[str]) -> bool:
    return any(name.endswith(".trans.txt") for name in names)


def _utterances(split_folders: list[Path]) -> Iterator[Utterance]:
    for split_folder in split_folders:
        for folder, names in walk(split_folder):
            below = folder.relative_to(split_folder).parts
            speaker = printable(below[0] if below else split_folder.name)
            for stem, name, text, fault in sorted(_chapter(folder, names), key=lambda one: one[:2]):
                path = folder / name
                yield Utterance(
                    id=printable(stem),
                    audio=AudioFile(Path(printable(str(path)))),
                    text=text,
                    speaker=speaker,
                    split=split_of(split_folder.name),
                    fault=name_fault(path) or fault,
                )


def _chapter(folder: Path, names: list[str]) -> Iterator[tuple[str, str, str, Fault | None]]:
    """Stem, recording, text and fault of all that a folder's recordings and transcripts name."""
    recordings = recordings_by_stem(names)
    told = set()
    for stem, text, fault in _texts(folder, names):
        told.add(stem)
        if stem not in recordings:
            fault = Fault("audio-missing", f"{folder}: there is a transcript of {stem}, but no recording")
        yield stem, recordings.get(stem, [f"{stem}.flac"])[0], text, fault
    for stem, (first, *more) in recordings.items():
        if stem not in told:
            yield stem, first, "", Fault("text-missing", f"{folder / first}: the folder holds no transcript of it")
        for name in more:
            yield stem, name, "", Fault("duplicate-id", f"{folder / name}: there is a {first} too")


def _texts(folder: Path, names: list[str]) -> Iterator[tuple[str, str, Fault | None]]:
    for name in names:
        if not name.endswith(".trans.txt"):
            continue
        lines = (folder / name).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
        for number, line in enumerate(lines, 1):
            stem, _, rest = line.strip().partition(b" ")
            if stem:
                text, fault = transcript(rest, f"{folder / name}, line {number}")
                yield os.fsdecode(stem), text.lower(), fault
    stems = {name[: -len(end)] for name in names for end in _TEXTS if name.endswith(end)}
    for stem in stems:
        yield stem, *read_transcript(folder / next(stem + end for end in _TEXTS if stem + end in names))
