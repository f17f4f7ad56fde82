"""What `ellav evaluate` speaks: a data set's held-out utterances, or sentences in the voices of recordings."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from data_pipelines.corpora import open_corpus
from data_pipelines.corpora.utterance import Audio, Utterance
from data_pipelines.records import Dataset, Record
from ellav_jax.errors import InputError, UnusableError
from ellav_jax.evaluation.protocols import (
    ProtocolName,
    Target,
    beginning,
    choose_prompt,
    continuation,
    cross_sentence,
    read_sentences,
)
from ellav_jax.synthesis.prompt_cache import PromptCache
from ellav_jax.synthesis.synthesizer import Synthesizer
from launch.progress import Progress

HARD = "hard"
"""Name of the list of sentences that comes with the package."""
LONGEST_PROMPT_RECORDING = 60.0


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """A recording with its codes."""

    record: Record
    audio: Audio


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """Targets, and the recordings that ground truth and resynthesis are measured on: those of the targets where they have
    any (`references`), else those of the prompts. skipped: ids with the reason. identity: what decides all this."""

    targets: Sequence[Target]
    recorded: Sequence[Recorded]
    references: bool
    skipped: Sequence[tuple[str, str]]
    identity: Mapping[str, object]


def data_set_work(
    dataset: Dataset,
    split: str,
    corpus_spec: str | None,
    protocol: ProtocolName,
    seconds: tuple[float, float],
    prompt_seconds: float,
    limit: int | None,
    synthesizer: Synthesizer,
) -> Work:
    """Utterances of `split` that last `seconds` (least, most), the first `limit` of them, by one of the paper's protocols.

    Raises InputError where none is left, or the recordings are not to be found.
    """
    rate = dataset.info["codec"]["frame_rate"]
    records = list(dataset.records(split))
    inventory = dataset.frontend.phones
    targets, skipped = [], []
    for record in records:
        length = record.num_frames / rate
        if not seconds[0] <= length <= seconds[1]:
            skipped.append((record.id, f"lasts {length:.2f} s, not {seconds[0]:g} to {seconds[1]:g} s"))
            continue
        if len(targets) == limit:
            break
        try:
            phones = synthesizer.analyzer.phones(record.text)
        except UnusableError as error:
            skipped.append((record.id, str(error)))
            continue
        if protocol == "continuation":
            target = continuation(record, phones, inventory, prompt_seconds * rate)
            reason = f"nothing to say on one side of the cut at {prompt_seconds:g} s"
        else:
            target = cross_sentence(record, phones, records, inventory, prompt_seconds * rate)
            reason = f"no other utterance of speaker {record.speaker} to take the voice from"
        if target is None:
            skipped.append((record.id, reason))
        else:
            targets.append(target)
    if not targets:
        raise InputError(
            f"{dataset.path}, {split}: none of {len(records)} utterances can be used; the first one: {skipped[0][1]} "
            "(--shortest and --longest set the lengths)"
        )
    audio = _audio_of(dataset, corpus_spec, {target.id for target in targets})
    recorded = [Recorded(target.utterance, audio[target.id]) for target in targets]
    identity = {
        "protocol": protocol,
        "data": dataset.digest(split),
        "split": split,
        "seconds": list(seconds),
        "prompt_seconds": prompt_seconds,
        "limit": limit,
    }
    return Work(targets, recorded, True, skipped, identity)


def _audio_of(dataset: Dataset, spec: str | None, ids: set[str]) -> dict[str, Audio]:
    """Recordings by utterance id."""
    if spec is None:
        if dataset.info["corpus"]["name"] != "bundled":
            raise InputError(
                f"{dataset.path} holds codes, and the ground truth is a row of the table: say where its recordings are with "
                "--corpus, as `ellav prepare` was told (such as librispeech:DIR)"
            )
        spec = "bundled"
    found = {one.id: one.audio for one in open_corpus(spec).utterances if one.id in ids}
    if missing := sorted(ids - set(found)):
        raise InputError(
            f"--corpus {spec}: no recording of {', '.join(missing[:3])} ({len(missing)} of {len(ids)} missing)"
        )
    return found


def sentence_work(
    sentences: str,
    prompts: str,
    prompt_seconds: float,
    limit: int | None,
    synthesizer: Synthesizer,
    cache: PromptCache,
) -> Work:
    """Sentences (a file, or `hard`), each in the voice of one recording of `prompts`: a folder, or a corpus's test split.

    Raises InputError where either is not there or of no use.
    """
    lines = read_sentences(_sentence_text(sentences), sentences)[:limit]
    rate = synthesizer.codec.frame_rate
    voices, skipped = _voices(prompts, synthesizer, cache)
    by_id = {one.record.id: one for one in voices}
    targets = []
    for number, text in enumerate(lines, start=1):
        name = f"sentence {number}"
        try:
            phones = synthesizer.analyzer.phones(text)
        except UnusableError as error:
            skipped.append((name, str(error)))
            continue
        # By the sentence's text: a list that grows doesn't change the voices of the others.
        chosen = choose_prompt(text, [one.record for one in voices], prompt_seconds * rate)
        targets.append(Target(name, text, beginning(chosen, prompt_seconds * rate), chosen.id, tuple(phones)))
    if not targets:
        raise InputError(f"{sentences}: no sentence can be spoken; the first one: {skipped[-1][1]}")
    used = sorted({target.prompt_id for target in targets})
    identity = {
        "protocol": "sentences",
        "sentences": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "prompts": {name: hashlib.sha256(by_id[name].record.to_bytes()).hexdigest() for name in used},
        "prompt_seconds": prompt_seconds,
    }
    return Work(targets, [by_id[name] for name in used], False, skipped, identity)


def _sentence_text(sentences: str) -> str:
    if sentences == HARD:
        return (resources.files("ellav_jax.evaluation") / "hard_sentences.txt").read_text(encoding="utf-8")
    path = Path(sentences)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file of sentences; expected one sentence a line, or {HARD!r} for the list here"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save the sentences as UTF-8 text") from None


def _voices(prompts: str, synthesizer: Synthesizer, cache: PromptCache) -> tuple[list[Recorded], list[tuple[str, str]]]:
    """Recordings with their codes and phones, and those that can't be used."""
    held_out = _prompt_recordings(prompts)
    voices, skipped = [], []
    with Progress("prompts", "recording") as progress:
        for number, one in enumerate(held_out, start=1):
            try:
                if one.fault is not None:
                    raise UnusableError(one.fault.kind, one.fault.detail)
                voices.append(Recorded(_record(one, synthesizer, cache), one.audio))
            except InputError as error:
                skipped.append((one.id, str(error)))
            progress.update(number, len(held_out))
    if not voices:
        raise InputError(
            f"--prompts {prompts}: none of {len(held_out)} recordings can be used; the first one: {skipped[0][1]}"
        )
    return voices, skipped


def _prompt_recordings(prompts: str) -> list[Utterance]:
    """Recordings of a folder, or of a corpus's test split. The bundled corpus is meant by its name, whatever lies here."""
    if prompts != "bundled" and os.path.isdir(prompts):
        return list(open_corpus(f"folder:{prompts}").utterances)
    held_out = [one for one in open_corpus(prompts).utterances if one.split == "test"]
    if not held_out:
        raise InputError(f"--prompts {prompts}: this corpus has no test split; give a folder of recordings")
    return held_out


def _record(utterance: Utterance, synthesizer: Synthesizer, cache: PromptCache) -> Record:
    """The recording aligned and encoded, in the form of a data set's."""
    waveform_S, rate = utterance.audio.read(LONGEST_PROMPT_RECORDING)
    prompt = cache.prompt(synthesizer, waveform_S, rate, utterance.text)
    return Record(
        utterance.id,
        utterance.text,
        utterance.speaker,
        prompt.phones_P.astype(np.uint16),
        prompt.durations_P.astype(np.int32),
        prompt.codes_Tx8.astype(np.uint16),
    )


def each_skipped(skipped: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Reasons with how many they concern, most frequent first; figures in a reason are left out of its kind."""
    kinds: dict[str, list[str]] = {}
    for name, reason in skipped:
        kinds.setdefault(reason.split(",")[0] if not reason.startswith("lasts") else "other length", []).append(name)
    for reason, names in sorted(kinds.items(), key=lambda item: -len(item[1])):
        yield f"{len(names)} left out, {reason}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
