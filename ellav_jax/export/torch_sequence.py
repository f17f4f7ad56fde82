"""Hybrid sequences in plain Python: phones, durations and layer-1 codes → tokens and rows to decode.

    paper    P1 … Pn BOS P1 c c c EOP P2 c c EOP … Pn c c c EOP | EOS
    compact  P1 … Pn BOS P1 c c c P2 c c … Pn c c c | EOS
    valle    P1 … Pn BOS c c c … c | EOS

Frames are those of the audio unless they are said to be of the sequence, in which phones end `local_advance` earlier.
"""

import dataclasses
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor

from ellav_jax.export.torch_modules import BOS, EOP, EOS, FIRST_PHONE, NUM_LAYERS

NO_CAP = 2**30
"""Frames of a phone without a cap."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which hybrid sequence a GAR was trained on. global_advance: all phones stand ahead of BOS too. local_advance: frames
    by which a phone's end and the next phone move ahead of the aligned boundary."""

    order: Literal["compact", "paper", "valle"] = "compact"
    global_advance: bool = True
    local_advance: int = 0

    @property
    def interleaved(self) -> bool:
        """Whether phones stand among the codes."""
        return self.order != "valle"

    @property
    def eop_input(self) -> bool:
        """Whether EOP is an input position of its own."""
        return self.order == "paper"


@dataclasses.dataclass(frozen=True, eq=False)
class Utterance:
    """A recording, to train on or as the prompt whose voice is taken.

    phones: ids [N]. durations: frames of each [N]; 0 only in speech that was cut off. codes: integers [T, 8], T the sum of
    the durations.
    Raises ValueError when these disagree.
    """

    phones: Sequence[int]
    durations: Sequence[int]
    codes: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "phones", [int(phone) for phone in self.phones])
        object.__setattr__(self, "durations", [int(frames) for frames in self.durations])
        codes = torch.as_tensor(self.codes).long().cpu()
        object.__setattr__(self, "codes", codes)
        if codes.ndim != 2 or codes.shape[1] != NUM_LAYERS:
            raise ValueError(f"codes are {list(codes.shape)}, expected [T, {NUM_LAYERS}]")
        if not self.phones or len(self.phones) != len(self.durations) or min(self.durations) < 0:
            raise ValueError("expected one duration for each phone, and at least one phone")
        if sum(self.durations) != len(codes):
            raise ValueError(f"the phones last {sum(self.durations)} frames, the codes {len(codes)}")


def advance_durations(durations: Sequence[int], local_advance: int) -> list[int]:
    """Durations in the audio → in the sequence: b′ᵢ = max(bᵢ − k, b′ᵢ₋₁ + 1) for i < n, b′ₙ = T."""
    if local_advance == 0:
        return list(durations)
    ends = [0]
    for end in accumulate(durations):
        ends.append(max(end - local_advance, ends[-1] + 1))
    ends[-1] = sum(durations)
    return [end - begin for begin, end in pairwise(ends)]


def restore_durations(advanced: Sequence[int], local_advance: int) -> list[int]:
    """Durations in the sequence → in the audio: bᵢ = min(b′ᵢ + k, T − (n − i)) for i < n."""
    n, total, ends = len(advanced), sum(advanced), [0]
    for i, end in enumerate(accumulate(advanced), start=1):
        ends.append(total if i == n else min(end + local_advance, total - (n - i)))
    return [end - begin for begin, end in pairwise(ends)]


def _tokens(phones: Sequence[int]) -> list[int]:
    return [FIRST_PHONE + phone for phone in phones]


def _check_heard(utterance: Utterance) -> None:
    if min(utterance.durations) < 1:
        raise ValueError(f"phone {utterance.durations.index(0)} has no frame; expected at least 1")


def build_sequence(utterance: Utterance, layout: Layout) -> tuple[list[int], list[int], list[bool]]:
    """Tokens, targets (0 where none is learned) and loss mask of one utterance.

    Raises ValueError for a phone without a frame.
    """
    _check_heard(utterance)
    codes = utterance.codes[:, 0].tolist()
    tokens = [*(_tokens(utterance.phones) if layout.global_advance else []), BOS]
    targets, mask = [0] * len(tokens), [False] * len(tokens)
    if not layout.interleaved:
        return tokens + codes, [*targets[:-1], *codes, EOS], [*mask[:-1], *[True] * (len(codes) + 1)]
    begin = 0
    for phone, frames in zip(
        utterance.phones, advance_durations(utterance.durations, layout.local_advance), strict=True
    ):
        own = codes[begin : begin + frames]
        begin += frames
        tokens += [FIRST_PHONE + phone, *own]
        targets += [*own, EOP]
        mask += [True] * (frames + 1)
        if layout.eop_input:
            tokens.append(EOP)
            targets.append(0)
            mask.append(False)  # a phone that is given follows
    targets[-1], mask[-1] = EOS, True
    return tokens, targets, mask


@dataclasses.dataclass(frozen=True)
class Row:
    """A sentence in the sequence's terms.

    prefix: tokens up to and with the first phone that the GAR decides on. fed: tokens of it and those behind it, with
    floors and caps. started: frames of the first that the prefix holds. ahead: durations of the phones ahead of it.
    most_frames: at which it is cut off.
    """

    prefix: list[int]
    fed: list[int]
    floors: list[int]
    caps: list[int]
    started: int
    ahead: list[int]
    most_frames: int


def _prefix(
    phones: Sequence[int], durations: Sequence[int], codes: Sequence[int], behind: Sequence[int], layout: Layout
) -> tuple[list[int], list[int]]:
    """Tokens ahead of the first code to decode, and the durations in the sequence of the phones ahead; behind these, the
    prompt's frames that fall into the first phone to speak."""
    head = [*(_tokens([*phones, *behind]) if layout.global_advance else []), BOS]
    if not layout.interleaved:
        return [*head, *codes], [0]
    # The first phone to speak is at hand for as long as the local advance needs, and its codes beyond the prompt cut off.
    beyond = layout.local_advance + 1
    advanced = advance_durations([*durations, beyond], layout.local_advance)
    body: list[int] = []
    rest = [*codes, *[0] * beyond]
    for phone, frames in zip([*phones, behind[0]], advanced, strict=True):
        body += [FIRST_PHONE + phone, *rest[:frames], *[EOP] * layout.eop_input]
        rest = rest[frames:]
    advanced[-1] -= beyond
    return head + body[: len(body) - beyond - layout.eop_input], advanced


def make_row(
    prompt: Utterance, phones: Sequence[int], floors: Sequence[int], caps: Sequence[int], most: int, layout: Layout
) -> Row:
    """Phones to speak behind a prompt, at least one, with least and most frames of each. most: frames of a cut-off.

    Raises ValueError where the prompt has a phone without a frame, or too few frames for the layout's local advance.
    """
    _check_heard(prompt)
    advance, layer_1 = layout.local_advance, prompt.codes[:, 0].tolist()
    floors, caps = list(floors), list(caps)
    if not layout.interleaved:
        prefix, _ = _prefix(prompt.phones, prompt.durations, layer_1, phones, layout)
        return Row(prefix, _tokens(phones[:1]), floors[:1], [min(sum(caps), NO_CAP)], 0, list(prompt.durations), most)
    # In the sequence the last phone has its frames and those by which the one before it ended early.
    floors[-1] += advance
    caps[-1] += advance
    # Phones that end before the GAR has a say: the prefix holds `advance` frames of what follows it already.
    early, frames = 0, 0
    while early < len(phones) - 1 and caps[early] < advance - frames:
        frames += caps[early]
        early += 1
    prefix, ahead = _prefix(
        [*prompt.phones, *phones[:early]],
        [*prompt.durations, *caps[:early]],
        [*layer_1, *[0] * frames],
        phones[early:],
        layout,
    )
    started = ahead[-1] - frames
    wanted = list(accumulate([len(layer_1), *caps[:early]]))
    found = list(accumulate(ahead))[len(prompt.phones) - 1 : -1]
    in_time = all(end == want - advance for end, want in zip(found, wanted, strict=True))
    floors, caps = floors[early:], caps[early:]
    missing = advance - frames - started
    floors[0] = max(floors[0] - missing, 1)
    caps[0] -= missing
    if (early and not in_time) or caps[0] < max(started, 1):
        raise ValueError(
            f"{len(prompt.phones)} phones in {len(layer_1)} frames are too short a prompt for a local advance of {advance} "
            "frames; give a longer one"
        )
    caps = [min(cap, NO_CAP) for cap in caps]
    return Row(prefix[: len(prefix) - frames], _tokens(phones[early:]), floors, caps, started, list(ahead[:-1]), most)


def audio_durations(
    row: Row, spoken: Sequence[int], num_frames: int, finished: bool, prompt: Utterance, num_phones: int, layout: Layout
) -> list[int]:
    """Frames in the sequence of the row's phones → frames in the audio of the prompt's phones and the num_phones behind."""
    if not layout.interleaved:
        ends = [i * num_frames // num_phones for i in range(num_phones + 1)]
        return [*row.ahead, *(end - begin for begin, end in pairwise(ends))]
    durations = [*row.ahead, *spoken]
    if finished:
        return restore_durations(durations, layout.local_advance)
    most = len(prompt.codes) + num_frames
    ends = [0, *(min(end + layout.local_advance, most) for end in accumulate(durations))]
    return [end - begin for begin, end in pairwise(ends)]
