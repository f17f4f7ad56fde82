"""Decoding: the GAR token by token with its cache, ragged batches included, and the NAR layer by layer."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ellav_jax.export.torch_modules import (
    EOP,
    EOS,
    MORE_SLOTS,
    NUM_CODES,
    NUM_LAYERS,
    NUM_OUTPUTS,
    PAD,
    Gar,
    Nar,
    NarInputs,
    Segments,
)
from ellav_jax.export.torch_sequence import NO_CAP, Row, Utterance

FRAME_RATE = 75
"""Codec frames a second."""
SILENCE = "SIL"
"""The phone of silence."""
PHONE_ROOMS = (32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Numbers of phones; a sentence is cut off at twice the time that the next one of these takes at 12 phones a second."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy. top_k keeps the k likeliest tokens (0: all), top_p the smallest set of them with that much
    probability. Each row draws by the seed alone, whatever its neighbours."""

    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < math.inf and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise ValueError(f"expected temperature ≥ 0, 0 < top_p ≤ 1 and top_k ≥ 0, got {self}")


@dataclasses.dataclass(frozen=True)
class Limits:
    """Least frames of a phone, most seconds of a phone and of silence (None: no cap), and of a sentence (None: about twice
    the length that speech of so many phones has)."""

    min_frames: int = 1
    max_phone_seconds: float | None = 0.4
    max_silence_seconds: float | None = 0.8
    max_seconds: float | None = None

    def cap(self, phone: str) -> int:
        """Most frames of a phone."""
        seconds = self.max_silence_seconds if phone == SILENCE else self.max_phone_seconds
        return NO_CAP if seconds is None else max(round(FRAME_RATE * seconds), self.min_frames)

    def most_frames(self, num_phones: int, least_frames: int) -> int:
        """Frames at which a sentence is cut off. Raises ValueError where its floors alone pass that."""
        if self.max_seconds is not None:
            most = max(round(self.max_seconds * FRAME_RATE), 1)
            if least_frames < most:
                return most
        else:
            for room in PHONE_ROOMS:
                most = -(-(2 * FRAME_RATE * room // 12 + FRAME_RATE) // 256) * 256
                if num_phones <= room and least_frames < most:
                    return most
        raise ValueError(
            f"{num_phones} phones of {least_frames} frames or more in one go; split the text, or raise limits"
        )


def choose(logits: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> Tensor:
    """Logits [B, V], −inf where forbidden → tokens [B]. generators: one a row, on the CPU."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits / max(sampling.temperature, 1e-6)
    ranked = scaled.sort(-1, descending=True).values
    if sampling.top_k:
        ranked[:, sampling.top_k :] = -math.inf
    probability = ranked.softmax(-1)
    ahead = probability.cumsum(-1) - probability  # the likeliest token has nothing ahead of it and always stays
    least = ranked.masked_fill((ahead >= sampling.top_p) | (ranked == -math.inf), math.inf).amin(-1, keepdim=True)
    kept = scaled.masked_fill(scaled < least, -math.inf).softmax(-1)
    # The largest of p / e, e exponentially distributed, is a draw from p.
    noise = [torch.empty(logits.shape[1]).exponential_(generator=generator) for generator in generators]
    return (kept / torch.stack(noise).to(kept.device)).argmax(-1)


@dataclasses.dataclass
class Spoken:
    """What the GAR said of a row: codes of layer 1, frames in the sequence of each phone fed, whether it ended by itself."""

    codes: list[int]
    durations: list[int]
    finished: bool = False
    pointer: int = 0
    waiting: bool = False


@torch.inference_mode()
def decode_rows(gar: Gar, rows: Sequence[Row], eop_input: bool, sampling: Sampling) -> list[Spoken]:
    """Decodes until each row has ended or has its most frames. Rows are of any lengths; one that is done leaves the batch.

    After a phone only codes are allowed until its floor is reached; then EOP, or EOS for the last phone, too; at its cap
    nothing but that. On EOP the next phone is fed, not predicted. VALL-E's AR is the case of one "phone" that is not fed.
    eop_input: the paper's layout, where EOP takes a position of its own.
    """
    device = gar.head.weight.device
    spoken = [Spoken([], [row.started, *[0] * (len(row.fed) - 1)]) for row in rows]
    generators = [torch.Generator().manual_seed(sampling.seed) for _ in rows]
    lengths = [len(row.prefix) for row in rows]
    prefixes = torch.full((len(rows), max(lengths)), PAD)
    for at, row in enumerate(rows):
        prefixes[at, : lengths[at]] = torch.tensor(row.prefix)
    logits, cache = gar.prefill(prefixes.to(device), lengths, max(lengths) + MORE_SLOTS)
    active = list(range(len(rows)))
    while active:
        allowed = _allowed(logits, [rows[i] for i in active], [spoken[i] for i in active], eop_input)
        chosen = choose(allowed, sampling, [generators[i] for i in active]).tolist()
        fed, going = [], []
        for at, i in enumerate(active):
            token, done = _advance(rows[i], spoken[i], chosen[at], eop_input)
            if not done:
                fed.append(token)
                going.append(at)
        if len(going) < len(active):
            cache.keep(going)
            active = [active[at] for at in going]
        if active:
            logits = gar.step(torch.tensor(fed, device=device), cache)
    return spoken


def _allowed(logits: Tensor, rows: Sequence[Row], spoken: Sequence[Spoken], eop_input: bool) -> Tensor:
    frames = [one.durations[one.pointer] for one in spoken]
    last = [one.pointer == len(row.fed) - 1 for one, row in zip(spoken, rows, strict=True)]
    must = [f >= row.caps[one.pointer] for f, one, row in zip(frames, spoken, rows, strict=True)]
    may = [f >= row.floors[one.pointer] for f, one, row in zip(frames, spoken, rows, strict=True)]
    closing = [EOS if end and not eop_input else EOP for end in last]
    tokens = torch.arange(NUM_OUTPUTS, device=logits.device)
    must, may, closing = (torch.tensor(values, device=logits.device)[:, None] for values in (must, may, closing))
    return logits.masked_fill(~((tokens < NUM_CODES) & ~must | (tokens == closing) & may), -math.inf)


def _advance(row: Row, one: Spoken, chosen: int, eop_input: bool) -> tuple[int, bool]:
    """Takes a row one token further. → the token to feed next, and whether the row is done."""
    if one.waiting:  # EOP was fed: its phone follows
        one.waiting = False
        one.pointer += 1
        return row.fed[one.pointer], False
    if chosen < NUM_CODES:
        one.codes.append(chosen)
        one.durations[one.pointer] += 1
        return chosen, len(one.codes) >= row.most_frames
    if one.pointer == len(row.fed) - 1:
        one.finished = True
        return chosen, True
    if eop_input:
        one.waiting = True
        return chosen, False
    one.pointer += 1
    return row.fed[one.pointer], False


def nar_inputs(
    utterances: Sequence[Utterance], given_frames: Sequence[int], stages: Sequence[int], device: torch.device | str
) -> tuple[NarInputs, Segments, Tensor]:
    """Rows of phones and frames, padded at the right. given_frames: of prompts, with all layers known. stages: 2 … 8.

    → inputs, which positions see each other, and the loss mask [B, R]: frames behind the prompt.
    """
    lengths = [len(one.phones) + len(one.codes) for one in utterances]
    shape = (len(utterances), max(lengths))
    phones, known = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    is_frame, codes = torch.zeros(shape, dtype=torch.bool), torch.zeros(*shape, NUM_LAYERS, dtype=torch.long)
    for at, (one, given, stage) in enumerate(zip(utterances, given_frames, stages, strict=True)):
        n, end = len(one.phones), lengths[at]
        own = torch.tensor(one.phones)
        phones[at, :end] = torch.cat([own, own.repeat_interleave(torch.tensor(one.durations))])
        is_frame[at, n:end] = True
        codes[at, n:end] = one.codes
        known[at, n:end] = stage - 1
        known[at, n : n + given] = NUM_LAYERS
    stage = torch.tensor(stages)[:, None].expand(shape)
    positions = torch.arange(shape[1]).expand(shape)
    inputs = NarInputs(phones, is_frame, codes, known, stage, positions)
    inputs = NarInputs(**{field.name: getattr(inputs, field.name).to(device) for field in dataclasses.fields(inputs)})
    segments = Segments.padded(torch.tensor(lengths, device=device), shape[1], causal=False)
    return inputs, segments, inputs.is_frame & (inputs.known < NUM_LAYERS)


@torch.inference_mode()
def fill_layers(nar: Nar, utterances: Sequence[Utterance], given_frames: Sequence[int]) -> list[Tensor]:
    """Layers 2 … 8 behind prompts of given_frames, greedily, one pass each, all utterances at once.

    utterances: prompt and sentence in one; behind the prompt only layer 1 of the codes is looked at. → codes [T, 8] of each.
    """
    device = nar.code_embedding.device
    inputs, segments, own = nar_inputs(utterances, given_frames, [2] * len(utterances), device)
    codes = inputs.codes.clone()
    for stage in range(2, NUM_LAYERS + 1):
        known = inputs.known.masked_fill(own, stage - 1)
        x = nar(
            dataclasses.replace(inputs, codes=codes, known=known, stage=torch.full_like(inputs.stage, stage)), segments
        )
        codes[..., stage - 1] = torch.where(own, nar.logits(x, stage).argmax(-1), codes[..., stage - 1])
    return [codes[at, len(one.phones) : len(one.phones) + len(one.codes)].cpu() for at, one in enumerate(utterances)]
