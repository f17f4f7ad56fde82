"""`ljspeech:DIR`: LJ Speech, and other corpora of one speaker in its layout."""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.corpora.options import CorpusOptions
from data_pipelines.corpora.reading import (
    USERS_OWN,
    LazyUtterances,
    checked,
    existing_folder,
    held_out_split,
    name_fault,
    printable,
    recordings_by_stem,
    transcript,
)
from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from ellav_jax.errors import InputError

_EXPECTED = "metadata.csv (id|text|normalised text, a line each) and wavs/ID.wav"


def open_ljspeech(path: str, options: CorpusOptions) -> Corpus:
    """LJ Speech: the normalised text of metadata.csv, or the raw one where there is no third column.

    There is no split in it: `options.test_share` decides. The speaker is "LJ" where ids are LJ Speech's own, else the
    folder's name. A recording that metadata.csv lacks, and a line without a recording, are yielded with their fault.

    Raises InputError when there is no such folder, or it is laid out otherwise.
    """
    root = existing_folder(path, f"a folder with {_EXPECTED}")
    for needed, there in (("metadata.csv", (root / "metadata.csv").is_file()), ("wavs/", (root / "wavs").is_dir())):
        if not there:
            raise InputError(f"{root}: there is no {needed}; expected a folder with {_EXPECTED}")
    with open(root / "metadata.csv", "rb") as file:
        genuine = re.match(rb"(\xef\xbb\xbf)?LJ\d{3}-\d{4}\|", file.readline()) is not None
    speaker = "LJ" if genuine else printable(root.name)
    listing = LazyUtterances(functools.partial(_utterances, root, speaker, options.test_share))
    licence = "public domain" if genuine else USERS_OWN
    attribution = "LJ Speech (Ito and Johnson, 2017), from LibriVox recordings; keithito.com/LJ-Speech-Dataset"
    return checked(
        Corpus("ljspeech", licence, attribution if genuine else USERS_OWN, listing), f"in {root} {_EXPECTED}"
    )


def _utterances(root: Path, speaker: str, test_share: float) -> Iterator[Utterance]:
    def utterance(stem: str, name: str, text: str, fault: Fault | None) -> Utterance:
        path, shown = root / "wavs" / name, printable(stem)
        audio = AudioFile(Path(printable(str(path))))
        return Utterance(shown, audio, text, speaker, held_out_split(shown, test_share), name_fault(path) or fault)

    recordings = recordings_by_stem(sorted(os.listdir(root / "wavs")))
    metadata = root / "metadata.csv"
    told = set()
    with open(metadata, "rb") as file:
        for number, line in enumerate(file, 1):
            if not (line := line.removeprefix(b"\xef\xbb\xbf").strip()):
                continue
            columns = line.split(b"|")
            stem = os.fsdecode(columns[0].strip())
            told.add(stem)
            if len(columns) < 2:
                text, fault = "", Fault("text-missing", f"{metadata}, line {number}: no text; expected id|text")
            else:
                text, fault = transcript(columns[2] if len(columns) > 2 else columns[1], f"{metadata}, line {number}")
            if stem not in recordings:
                fault = Fault("audio-missing", f"{metadata}, line {number}: there is no wavs/{stem}.wav")
            yield utterance(stem, recordings.get(stem, [f"{stem}.wav"])[0], text, fault)
    for stem, (first, *more) in recordings.items():
        if stem not in told:
            yield utterance(stem, first, "", Fault("text-missing", f"{metadata} holds no text of wavs/{first}"))
        for name in more:
            yield utterance(stem, name, "", Fault("duplicate-id", f"{root / 'wavs' / name}: there is a {first} too"))
