"""What every corpus yields."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it.

    `id` is unique in its corpus and stable: it decides the shard. `split` is a name such as "train" or "test".
    """

    id: str
    audio: Path
    text: str
    speaker: str
    split: str


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Utterances in a fixed order, and the terms under which they may be used."""

    name: str
    licence: str
    attribution: str
    utterances: Sequence[Utterance]
