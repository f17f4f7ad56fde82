"""Codes of speech from a LlamaForCausalLM that is an ELLA-V GAR: prompt, logits processor, and generated ids taken apart.

This file needs torch and transformers alone; it lies beside the weights that it is for. Token ids: 0 … 1023 codes of RVQ
layer 1, 1024 EOP (end of phone), 1025 EOS, 1026 BOS, 1027 padding, 1028 + p phone p. The model has learned to say codes, EOP
and EOS; phones are given to it. In the layouts "compact" and "paper" each phone stands ahead of its codes, so something has
to put it there while the model generates: `PhoneByPhone`. Frames are those of the codec.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

NUM_CODES, EOP, EOS, BOS, PAD, FIRST_PHONE = 1024, 1024, 1025, 1026, 1027, 1028
SILENCE = FIRST_PHONE
"""SIL is the first phone of every inventory."""
MAX_FRAMES, MAX_SILENCE_FRAMES = 30, 60
"""Frames of a phone at most where nobody says more: 0.4 s, of silence 0.8 s, at EnCodec's 75 frames a second."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How sequences are built.

    order: "compact" P1 c c P2 c …, "paper" P1 c c EOP P2 c EOP …, "valle" c c c …, behind all phones and BOS.
    global_advance: all phones stand ahead of BOS. local_advance: frames by which the next phone comes early.
    """

    order: str
    global_advance: bool
    local_advance: int

    @classmethod
    def of(cls, config: Any) -> "Layout":
        """The layout of the model with this `config` (`model.config`)."""
        return cls(**config.ellav)


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What is to be spoken, as `sentence` makes it.

    prompt_ids: what stands ahead of the first code to generate. fed: ids of the phones to speak; prompt_ids hold the first.
    floors, caps: least and most frames of each in the sequence. started: frames of the first that prompt_ids hold.
    ahead: frames in the sequence of the prompt's phones. prompt_frames: of the prompt in all.
    """

    prompt_ids: list[int]
    fed: list[int]
    floors: list[int]
    caps: list[int]
    started: int
    ahead: list[int]
    prompt_frames: int

    @property
    def max_new_tokens(self) -> int:
        """So many ids are enough whatever the model says: codes up to the caps, phones, EOPs, EOS."""
        return sum(self.caps) + 2 * len(self.fed)


def sentence(
    layout: Layout,
    phones: Sequence[int],
    prompt_phones: Sequence[int] = (),
    prompt_durations: Sequence[int] = (),
    prompt_codes: Sequence[int] = (),
    floors: Sequence[int] | None = None,
    caps: Sequence[int] | None = None,
) -> Sentence:
    """Phones to speak in the voice of a prompt → `Sentence`.

    phones, prompt_phones: token ids, `tokenizer("SIL HH AY SIL").input_ids`. prompt_durations: frames of each of the
    prompt's phones in the recording. prompt_codes: its codes of RVQ layer 1. floors, caps: least and most frames of each
    phone to speak; without them 1, and 30 (60 of silence). Raises ValueError for what does not go together.
    """
    phones, prompt_phones = _integers(phones), _integers(prompt_phones)
    durations, codes = _integers(prompt_durations), _integers(prompt_codes)
    floors = [1] * len(phones) if floors is None else _integers(floors)
    if caps is None:
        caps = [MAX_SILENCE_FRAMES if phone == SILENCE else MAX_FRAMES for phone in phones]
        caps = [max(both) for both in zip(caps, floors, strict=False)]
    caps = _integers(caps)
    _check(phones, prompt_phones, durations, codes, floors, caps)
    head = [*prompt_phones, *phones] if layout.global_advance else []
    if layout.order == "valle":
        # Nothing is fed: as one phone, which EOS ends.
        return Sentence([*head, BOS, *codes], phones[:1], floors[:1], [sum(caps)], 0, [], len(codes))
    # The first phone to speak is at hand for as long as the local advance needs.
    beyond = layout.local_advance + 1
    *ahead, started = _advanced([*durations, beyond], layout.local_advance)
    started -= beyond
    body, at = [], 0
    for phone, frames in zip(prompt_phones, ahead, strict=True):
        body += [phone, *codes[at : at + frames]] + [EOP] * (layout.order == "paper")
        at += frames
    body += [phones[0], *codes[at:]]
    # In the sequence the last phone has also the frames by which the one before it ended early, and the first misses them.
    floors[-1] += layout.local_advance
    caps[-1] += layout.local_advance
    missing = layout.local_advance - started
    floors[0] = max(floors[0] - missing, 1)
    caps[0] -= missing
    if caps[0] < max(started, 1):
        raise ValueError(
            f"a first phone of at most {caps[0] + missing} frames ends within the {layout.local_advance} frames by which "
            f"the next one comes early; give it more"
        )
    return Sentence([*head, BOS, *body], phones, floors, caps, started, ahead, len(codes))


def batch(sentences: Sequence[Sentence]) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` [B, T] for `model.generate`, padded at the left."""
    width = max(len(one.prompt_ids) for one in sentences)
    ids_BxT = torch.tensor([[PAD] * (width - len(one.prompt_ids)) + one.prompt_ids for one in sentences])
    return {"input_ids": ids_BxT, "attention_mask": (ids_BxT != PAD).long()}


class PhoneByPhone(LogitsProcessor):
    """Lets a model speak the phones of each row in their order, each within its floor and its cap.

    After a phone only codes are allowed until its floor is reached, then what ends it, too, and at its cap nothing but that:
    EOS for the last phone; for others, in the layout "compact", the next phone's id with the score that the model gives EOP;
    in "paper" EOP, which the next phone (or EOS) has to follow. For one call of `model.generate` on `batch(sentences)`; rows
    may be multiplied (num_return_sequences, beams).
    """

    def __init__(self, layout: Layout, sentences: Sequence[Sentence]):
        self.eop_input = layout.order == "paper"
        self.prompt_length = max(len(one.prompt_ids) for one in sentences)
        self.last_B = torch.tensor([len(one.fed) - 1 for one in sentences])
        self.started_B = torch.tensor([one.started for one in sentences])
        most = int(self.last_B.max()) + 1

        def column(name: str) -> Tensor:
            values = [getattr(one, name) for one in sentences]
            return torch.tensor([one + [PAD] * (most - len(one)) for one in values])

        self.fed_BxN, self.floors_BxN, self.caps_BxN = column("fed"), column("floors"), column("caps")

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Ids so far [B, T], scores of all ids [B, V] → scores, −inf where an id is not allowed."""
        rows, width = len(input_ids), input_ids.shape[1]
        if width < self.prompt_length or rows % len(self.last_B):
            raise ValueError(
                f"{rows} rows of {width} ids, expected (a multiple of) {len(self.last_B)} of at least {self.prompt_length}: "
                "give generate the batch of the same sentences"
            )

        def of_rows(values: Tensor) -> Tensor:
            return values.to(scores.device).repeat_interleave(rows // len(self.last_B), 0)

        said_BxT = input_ids[:, self.prompt_length :]
        phones_BxT = (said_BxT >= FIRST_PHONE).cumsum(1)
        at_B = phones_BxT[:, -1] if said_BxT.shape[1] else said_BxT.new_zeros(rows)
        frames_B = ((said_BxT < NUM_CODES) & (phones_BxT == at_B[:, None])).sum(1)
        frames_B = frames_B + of_rows(self.started_B) * (at_B == 0)
        last_B = at_B == of_rows(self.last_B)
        fed_BxN = of_rows(self.fed_BxN)
        next_B = fed_BxN.gather(1, (at_B + 1).clamp(max=fed_BxN.shape[1] - 1)[:, None])[:, 0]
        next_B = torch.where(last_B, EOS, next_B)
        closing_B = torch.full_like(next_B, EOP) if self.eop_input else next_B
        may_close_B = frames_B >= of_rows(self.floors_BxN).gather(1, at_B[:, None])[:, 0]
        must_close_B = frames_B >= of_rows(self.caps_BxN).gather(1, at_B[:, None])[:, 0]

        allowed = torch.full_like(scores, -torch.inf)
        codes_BxC = scores[:, :NUM_CODES].masked_fill(must_close_B[:, None], -torch.inf)
        allowed[:, :NUM_CODES] = codes_BxC
        end_B = torch.where(last_B & (not self.eop_input), scores[:, EOS], scores[:, EOP])
        allowed.scatter_(1, closing_B[:, None], end_B.masked_fill(~may_close_B, -torch.inf)[:, None])
        if self.eop_input and said_BxT.shape[1]:
            given = torch.full_like(scores, -torch.inf).scatter_(1, next_B[:, None], 0.0)
            allowed = torch.where((said_BxT[:, -1] == EOP)[:, None], given, allowed)
        return allowed


@dataclasses.dataclass(frozen=True)
class Spoken:
    """Layer-1 codes of what was generated; frames of each phone to speak in the audio behind the prompt (None for "valle",
    which knows none), which are as many as the codes; whether it came to its end."""

    codes: list[int]
    durations: list[int] | None
    finished: bool


def take_apart(layout: Layout, one: Sentence, generated: Sequence[int] | Tensor) -> Spoken:
    """Ids that `generate` put behind the prompt of a sentence (`output[row, input_ids.shape[1]:]`) → `Spoken`."""
    ids = generated.tolist() if isinstance(generated, Tensor) else list(generated)
    finished = EOS in ids
    ids = ids[: ids.index(EOS)] if finished else ids
    codes = [token for token in ids if token < NUM_CODES]
    if layout.order == "valle":
        return Spoken(codes, None, finished)
    frames = [one.started] + [0] * (len(one.fed) - 1)
    phone = 0
    for token in ids:
        phone += token >= FIRST_PHONE
        frames[phone] += token < NUM_CODES
    # The boundaries stand local_advance frames early. Behind one there is a frame at least for each phone to come.
    total = one.prompt_frames + len(codes)
    frames = one.ahead + frames
    ends, end = [], 0
    for left, count in zip(range(len(frames) - 1, -1, -1), frames, strict=True):
        end += count
        ends.append(min(end + layout.local_advance, total - left * finished))
    ends = [max(end - one.prompt_frames, 0) for end in [one.prompt_frames, *ends[len(one.ahead) :]]]
    return Spoken(codes, [end - begin for begin, end in itertools.pairwise(ends)], finished)


def _integers(values: Sequence[int]) -> list[int]:
    """A list of its own, of plain integers, whatever array they come in."""
    return [int(value) for value in values]


def _advanced(durations: list[int], local_advance: int) -> list[int]:
    """Frames in the recording → in the sequence: each boundary but the last moves ahead; no phone loses its last frame."""
    ends, boundary = [0], 0
    for frames in durations[:-1]:
        boundary += frames
        ends.append(max(boundary - local_advance, ends[-1] + 1))
    ends.append(boundary + durations[-1])
    return [end - begin for begin, end in itertools.pairwise(ends)]


def _check(
    phones: list[int],
    prompt_phones: list[int],
    durations: list[int],
    codes: list[int],
    floors: list[int],
    caps: list[int],
) -> None:
    if not phones or min([*phones, *prompt_phones]) < FIRST_PHONE:
        raise ValueError(
            f"phones must be one or more ids from {FIRST_PHONE} on, as the tokenizer gives for their names"
        )
    if len(durations) != len(prompt_phones) or sum(durations) != len(codes) or min(durations, default=1) < 1:
        raise ValueError(
            f"a prompt of {len(prompt_phones)} phones, {len(durations)} durations of {sum(durations)} frames in all, and "
            f"{len(codes)} codes; expected a duration of at least 1 for each phone, which add up to the codes"
        )
    if codes and not 0 <= min(codes) <= max(codes) < NUM_CODES:
        raise ValueError(f"the prompt's codes must be 0 to {NUM_CODES - 1}, got {min(codes)} to {max(codes)}")
    if not len(phones) == len(floors) == len(caps) or not all(1 <= a <= b for a, b in zip(floors, caps, strict=True)):
        raise ValueError("each phone to speak wants a floor of at least 1 frame and a cap not below it")
