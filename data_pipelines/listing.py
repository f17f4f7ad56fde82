"""The listing: every utterance of a corpus on a line of its own, cut into groups of fixed membership.

Groups are what is prepared at a time, by whatever engine: a group's result depends on its own lines alone. A listing is
written and read line by line, so a corpus may be far larger than memory.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from data_pipelines.corpora import audio_from_json
from data_pipelines.corpora.utterance import Corpus, Fault, Utterance
from data_pipelines.textgrid_folder import TextGridFolder
from ellav_jax.errors import InputError
from ellav_jax.files import atomic_path


@dataclasses.dataclass(frozen=True)
class CorpusFacts:
    """What a pass over a corpus found. sha256 covers all that a data set depends on: ids, texts, speakers, splits and
    stamps of recordings and alignments, in order, and no paths; so a corpus may move."""

    utterances: int
    splits: tuple[str, ...]
    sha256: str


def list_corpus(
    corpus: Corpus,
    path: Path | None,
    group_size: int,
    limit: int | None = None,
    textgrids: TextGridFolder | None = None,
) -> CorpusFacts:
    """Passes over the corpus once; writes the listing to `path` (atomically; beside it `path`.groups) unless None.

    limit: only the first so many utterances of each split. textgrids: alignments that the data set depends on too. The
    second utterance of an id gets the fault duplicate-id.
    Raises InputError when there are no utterances, and for a split that can't name a file.
    """
    digest, splits = hashlib.sha256(), {}
    offsets, offset = [], 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(stack.enter_context(atomic_path(path)), "wb")) if path else None
        count = 0
        for utterance in selected(corpus.utterances, limit):
            if not re.fullmatch(r"[\w.-]+", utterance.split):
                raise InputError(f"corpus {corpus.name}: split {utterance.split!r} of {utterance.id} can't name a file")
            splits[utterance.split] = None
            fault = utterance.fault.kind if utterance.fault else None
            facts = [utterance.id, utterance.text, utterance.speaker, utterance.split, utterance.audio.stamp(), fault]
            if textgrids is not None:
                facts.append(textgrids.stamp(utterance))
            digest.update(json.dumps(facts).encode() + b"\n")
            if file is not None:
                if count % group_size == 0:
                    offsets.append(offset)
                offset += file.write(json.dumps(_to_json(utterance), ensure_ascii=False).encode() + b"\n")
            count += 1
        if not count:
            raise InputError(f"corpus {corpus.name}: no utterances; expected at least one")
    if path is not None:
        with atomic_path(_groups_path(path)) as temporary, open(temporary, "wb") as file:
            np.save(file, np.array([*offsets, offset], np.int64))
    return CorpusFacts(count, tuple(splits), digest.hexdigest())


def selected(utterances: Iterable[Utterance], limit: int | None) -> Iterator[Utterance]:
    """The first `limit` utterances of each split (None: all); the second one of an id gets the fault duplicate-id."""
    taken: dict[str, int] = {}
    seen = set()
    for utterance in utterances:
        taken[utterance.split] = taken.get(utterance.split, 0) + 1
        if limit is not None and taken[utterance.split] > limit:
            continue
        # 8 bytes of a hash instead of the id: 10 million ids fit, and two meet by chance once in 400,000 corpora.
        key = int.from_bytes(hashlib.sha256(utterance.id.encode()).digest()[:8], "big")
        if key in seen and utterance.fault is None:
            fault = Fault("duplicate-id", f"{utterance.audio.name}: an utterance before it has the same id")
            utterance = dataclasses.replace(utterance, fault=fault)
        seen.add(key)
        yield utterance


class Listing:
    """Random access to the groups of a listing. Cheap to make; nothing stays open."""

    def __init__(self, path: Path):
        self.path = path
        self._offsets = np.load(_groups_path(path), allow_pickle=False)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, group: int) -> list[Utterance]:
        """The utterances of a group, in the order of the corpus. Raises IndexError behind the last group."""
        if not 0 <= group < len(self):
            raise IndexError(f"group {group} of {len(self)}")
        with open(self.path, "rb") as file:
            file.seek(self._offsets[group])
            data = file.read(int(self._offsets[group + 1] - self._offsets[group]))
        return [_from_json(line) for line in data.splitlines()]

    def sizes(self) -> Iterator[int]:
        """Utterances of each group: as many in all but the last."""
        if len(self):
            first, last = len(self[0]), len(self[len(self) - 1])
            yield from itertools.chain(itertools.repeat(first, len(self) - 1), [last])


def _groups_path(path: Path) -> Path:
    return path.with_name(path.name + ".groups")


def _to_json(utterance: Utterance) -> dict[str, object]:
    line = {name: getattr(utterance, name) for name in ("id", "text", "speaker", "split")}
    line["audio"] = utterance.audio.to_json()
    if utterance.fault is not None:
        line["fault"] = dataclasses.asdict(utterance.fault)
    return line


def _from_json(line: bytes) -> Utterance:
    fields = json.loads(line)
    audio, fault = audio_from_json(fields.pop("audio")), fields.pop("fault", None)
    return Utterance(**fields, audio=audio, fault=Fault(**fault) if fault else None)
