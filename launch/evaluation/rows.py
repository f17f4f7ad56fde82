"""Rows of the table `ellav evaluate` makes: what is judged of each utterance, as a WAV file and a line that describes it."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio import write_audio
from data_pipelines.records import Record
from ellav_jax.codec.codec import Codec
from ellav_jax.evaluation.json_lines import JsonLines
from ellav_jax.evaluation.protocols import Target, stable_number
from ellav_jax.evaluation.recordings import matching_part
from ellav_jax.evaluation.stability import capped_phones, infinite_frames
from ellav_jax.frontend.inventory import SIL
from ellav_jax.hybrid_sequence import durations_behind_sequence
from ellav_jax.resampling import resample
from ellav_jax.synthesis.batches import in_batches
from ellav_jax.synthesis.first_layer import decode_stretches, free_stretch, shape_of
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.other_layers import Unfilled
from ellav_jax.synthesis.prompts import phone_ids
from ellav_jax.synthesis.request import SpeechRequest
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.speech import Speech
from ellav_jax.synthesis.synthesizer import Synthesizer
from launch.evaluation.clock import ComputingClock
from launch.evaluation.targets import Work
from launch.progress import Progress

AT_ONCE = 16
"""Utterances that are decoded together and then written."""
SPEECH, UNCAPPED = "speech.jsonl", "uncapped.jsonl"


@dataclasses.dataclass(frozen=True)
class System:
    """A GAR and a NAR that speak with one sampling. line: what the systems of one GAR share in a sweep. swept: the
    value that tells this one from them."""

    label: str
    line: str
    gar: Path
    nar: Path
    sampling: SamplingConfig
    swept: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A row of the table. folder: of its files; file i is utterance i's. system: None for recordings and their codes."""

    label: str
    folder: Path
    system: System | None = None

    def wav(self, index: int) -> Path:
        """Where the sound of utterance `index` is."""
        return self.folder / f"{index:05d}.wav"


def write_prompts(work: Work, folder: Path, codec: Codec) -> None:
    """Each target's prompt as the models are given it: its codes, decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    for indices in _blocks([i for i in range(len(work.targets)) if not (folder / f"{i:05d}.wav").exists()]):
        decoded = codec.decode_batch([work.targets[i].prompt.codes_Tx8 for i in indices])
        for index, wave_S in zip(indices, decoded, strict=True):
            write_audio(folder / f"{index:05d}.wav", wave_S, codec.sample_rate)


def write_recordings(work: Work, recording: Row, resynthesis: Row, codec: Codec, inventory: Sequence[str]) -> None:
    """The rows that no model makes better: recordings, and their codes decoded."""
    stores = [_open(row) for row in (recording, resynthesis)]
    missing = range(min(map(len, stores)), len(work.recorded))
    with Progress("ground truth", "recording") as progress:
        for indices in _blocks(list(missing)):
            chosen = [work.recorded[index] for index in indices]
            decoded = codec.decode_batch([one.record.codes_Tx8.astype(np.int32) for one in chosen])
            for index, one, decoded_S in zip(indices, chosen, decoded, strict=True):
                wave_S, rate = one.audio.read()
                real_S = matching_part(resample(wave_S, rate, codec.sample_rate), decoded_S)
                target = work.targets[index] if work.references else None
                line = _recording_line(one.record, target, codec, inventory)
                for row, store, sound_S in zip((recording, resynthesis), stores, (real_S, decoded_S), strict=True):
                    if len(store) == index:  # a kill may have come between the two
                        write_audio(row.wav(index), sound_S, codec.sample_rate)
                        store.append(line)
                progress.update(index + 1, len(work.recorded))


def fill_recordings(work: Work, row: Row, synthesizer: Synthesizer, sampling: SamplingConfig, batch_size: int) -> None:
    """The recordings' own layer 1 behind the targets' prompts, layers 2 … 8 by the NAR: what the GAR has no part in."""
    store, codec = _open(row), synthesizer.codec
    with Progress(f"layers 2 to 8, {row.label}", "recording") as progress:
        for indices in _blocks(list(range(len(store), len(work.recorded)))):
            pairs = [(work.targets[index], work.recorded[index].record) for index in indices]
            unfilled = [_first_layer(*pair, synthesizer.layout.local_advance) for pair in pairs]
            filled = synthesizer.engine.fill(unfilled, sampling, batch_size)
            judged = [
                codes_Tx8 if target.continues else codes_Tx8[len(target.prompt.codes_Tx8) :]
                for (target, _), codes_Tx8 in zip(pairs, filled, strict=True)
            ]
            for (target, record), sound_S in zip(pairs, codec.decode_batch(judged), strict=True):
                write_audio(row.wav(len(store)), sound_S, codec.sample_rate)
                store.append(_recording_line(record, target, codec, synthesizer.frontend.phones))
            progress.update(len(store), len(work.recorded))


def _first_layer(target: Target, record: Record, local_advance: int) -> Unfilled:
    """The target's recording with all layers of its prompt, which is its own beginning or stands ahead of it."""
    prompt, codes_Tx8 = target.prompt, record.codes_Tx8.astype(np.int32)
    if not target.continues:
        phones_N = np.concatenate([prompt.phones_P, record.phones_N])
        durations_N = np.concatenate([prompt.durations_P, record.durations_N])
        heard_N = durations_behind_sequence(durations_N, local_advance)
        return Unfilled.behind(prompt, phones_N, heard_N, codes_Tx8[:, 0])
    given_T = np.arange(len(codes_Tx8)) < len(prompt.codes_Tx8)
    codes_Tx8[~given_T, 1:] = 0
    heard_N = durations_behind_sequence(record.durations_N, local_advance)
    return Unfilled(record.phones_N, heard_N, codes_Tx8, given_T)


def _recording_line(record: Record, target: Target | None, codec: Codec, inventory: Sequence[str]) -> dict[str, Any]:
    phones = [inventory[phone] for phone in record.phones_N]
    given = len(target.prompt.codes_Tx8) if target is not None and target.continues else 0
    return {
        "id": record.id,
        "text": record.text,
        "phones": [phone for phone in phones if phone != SIL],
        "given": given * codec.hop,
        "prompt": None if target is None else target.prompt_id,
        "finished": True,
        "seconds": (record.num_frames - given) / codec.frame_rate,
        "drawn": {"phones": phones, "durations": record.durations_N.tolist()},
    }


def speak(work: Work, row: Row, synthesizer: Synthesizer, limits: PhoneLimits, longest: float, batch_size: int) -> None:
    """Lets a system speak what it hasn't yet. limits: those of the synthesizer. longest: T_max of INF%."""
    store = _open(row)
    pending = work.targets[len(store) :]
    requests = [SpeechRequest(one.prompt, one.phones, seed=seed_of(row.system.sampling, one.id)) for one in pending]
    with ComputingClock() as clock, Progress(f"speaking, {row.label}", "utterance") as progress:
        # As many rows whatever is left to do: rounding depends on their number, and a resumed run is to say the same.
        spoken = synthesizer.speak_batch(requests, row.system.sampling, _batch_rows(batch_size, work, synthesizer))
        for target in pending:
            clock.start()
            speech = next(spoken)
            line = _speech_line(target, speech, synthesizer, limits, longest, clock.read())
            prompt_S = (
                synthesizer.codec.decode(target.prompt.codes_Tx8) if target.continues else np.zeros(0, np.float32)
            )
            sound_S = np.concatenate([prompt_S, speech.waveform_S])
            write_audio(row.wav(len(store)), sound_S, synthesizer.codec.sample_rate)
            store.append(line)
            progress.update(len(store), len(work.targets))


def _speech_line(
    target: Target, speech: Speech, synthesizer: Synthesizer, limits: PhoneLimits, longest: float, computing: float
) -> dict[str, Any]:
    codec, inventory, prompt = synthesizer.codec, synthesizer.frontend.phones, target.prompt
    frames = len(speech.codes_Tx8)
    caps = [limits.cap(phone, codec.frame_rate) for phone in speech.phones]
    durations = np.concatenate([prompt.durations_P, speech.durations_N])
    capped, capped_of = capped_phones(durations, len(prompt.phones_P), caps, synthesizer.layout)
    given = [inventory[phone] for phone in prompt.phones_P] if target.continues else []
    given_N = prompt.durations_P.tolist() if target.continues else []
    reference = target.reference_frames
    return {
        "id": target.id,
        "text": target.text,
        "phones": target.heard_phones(inventory),
        "given": len(prompt.codes_Tx8) * codec.hop if target.continues else 0,
        "prompt": target.prompt_id,
        "finished": speech.finished,
        "seconds": frames / codec.frame_rate,
        "reference_seconds": None if reference is None else reference / codec.frame_rate,
        "computing": computing,
        "infinite": int(not speech.finished or frames >= infinite_frames(longest, codec.frame_rate)),
        "capped": capped,
        "capped_of": capped_of,
        "drawn": {"phones": [*given, *speech.phones], "durations": [*given_N, *speech.durations_N.tolist()]},
        "behind": list(speech.phones),
    }


def speak_uncapped(
    work: Work, row: Row, synthesizer: Synthesizer, min_frames: int, longest: float, batch_size: int
) -> None:
    """Layer 1 once more, with the same seeds, without caps, up to the frames at which speech counts as endless."""
    store = JsonLines(row.folder / UNCAPPED)
    spoken = JsonLines(row.folder / SPEECH).entries
    frontend, codec, layout = synthesizer.frontend, synthesizer.codec, synthesizer.layout
    limits = PhoneLimits(min_frames, None, None)
    most = infinite_frames(longest, codec.frame_rate)
    sampling = row.system.sampling

    def stretch(index: int) -> Any:
        target, phones_N = work.targets[index], phone_ids(spoken[index]["behind"], frontend)
        seed = seed_of(sampling, target.id)
        return free_stretch(target.prompt, phones_N, limits, frontend.phones, codec.frame_rate, seed)

    done = {entry["index"] for entry in store.entries}
    pending = [index for index in range(len(work.targets)) if index not in done]
    stretches = [stretch(index) for index in pending]
    shapes = [shape_of(one, layout, codec.frame_rate, most) for one in stretches]
    with Progress(f"without caps, {row.label}", "utterance") as progress:
        for places in in_batches(shapes, batch_size):
            firsts = decode_stretches(
                synthesizer.gar,
                layout,
                len(frontend.phones),
                [stretches[place] for place in places],
                shapes[places[0]],
                sampling,
                _batch_rows(batch_size, work, synthesizer),
                synthesizer.engine.placement,
            )
            for place, first in zip(places, firsts, strict=True):
                entry = {"index": pending[place], "id": work.targets[pending[place]].id}
                store.append(entry | {"infinite_uncapped": int(not first.finished), "frames": len(first.codes_T)})
            progress.update(len(store), len(work.targets))


def uncapped_results(row: Row) -> list[dict[str, Any]]:
    """INF without caps of each utterance, in their order."""
    entries = sorted(JsonLines(row.folder / UNCAPPED).entries, key=lambda entry: entry["index"])
    return [{"infinite_uncapped": entry["infinite_uncapped"], "frames_uncapped": entry["frames"]} for entry in entries]


def _batch_rows(batch_size: int, work: Work, synthesizer: Synthesizer) -> int:
    """Rows of a batch: no more than there are targets, rounded up to what the devices divide."""
    devices = synthesizer.engine.placement.multiple
    return min(batch_size, -(-len(work.targets) // devices) * devices)


def seed_of(sampling: SamplingConfig, utterance_id: str) -> int:
    """An utterance's own seed: neither its place nor its neighbours matter."""
    return stable_number(f"{sampling.seed} {utterance_id}")


def _open(row: Row) -> JsonLines:
    row.folder.mkdir(parents=True, exist_ok=True)
    return JsonLines(row.folder / SPEECH)


def _blocks(indices: list[int]) -> Iterator[list[int]]:
    return (indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE))
