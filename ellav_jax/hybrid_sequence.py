"""Hybrid sequences: phones, durations and layer-1 codes → inputs, targets and loss mask, and back.

The layouts (n phones, T frames; ELLA-V abstract and section 3 for the order; lengths are of the inputs):

    paper    P1 … Pn BOS P1 c c c EOP P2 c c EOP … Pn c c c EOP | EOS        3n + T + 1
    compact  P1 … Pn BOS P1 c c c P2 c c … Pn c c c | EOS                    2n + T + 1
    valle    P1 … Pn BOS c c c … c | EOS                                      n + T + 1

In the compact layout EOP is only a target: that of a phone's last frame, with EOS in its place at the last frame of the
last phone. As an input EOP carries nothing, since a phone that is given always follows it.
Without the global advance the phones before BOS are left out (n positions fewer).
"""

import dataclasses
from typing import Literal

import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.vocabulary import BOS, EOP, EOS, FIRST_PHONE, NUM_CODES, Vocabulary


@dataclasses.dataclass(frozen=True)
class LayoutConfig:
    """Which hybrid sequence is built.

    order: "compact" and "paper" interleave (ELLA-V), "valle" is the baseline without interleaving.
    global_advance: all phones stand ahead of BOS too. Always so in "valle", which has no other phones.
    local_advance: frames by which EOP and the next phone move ahead of the aligned boundary. The paper's value is unknown.
    """

    order: Literal["compact", "paper", "valle"] = "compact"
    global_advance: bool = True
    local_advance: int = 0

    def __post_init__(self) -> None:
        if self.local_advance < 0:
            raise InputError(f"local_advance must be 0 or more frames, got {self.local_advance}")
        if self.order == "valle" and not (self.global_advance and self.local_advance == 0):
            raise InputError('order "valle" has its phones ahead of BOS only: global_advance=True and local_advance=0')

    @property
    def interleaved(self) -> bool:
        """Whether phones stand among the codes."""
        return self.order != "valle"

    @property
    def eop_input(self) -> bool:
        """Whether EOP is an input position of its own."""
        return self.order == "paper"

    def num_inputs(self, num_phones: int | np.ndarray, num_frames: int | np.ndarray) -> int | np.ndarray:
        """Closed form of the number of input positions."""
        per_phone = int(self.global_advance) + int(self.interleaved) + int(self.eop_input)
        return per_phone * num_phones + num_frames + 1

    def num_targets(self, num_phones: int | np.ndarray, num_frames: int | np.ndarray) -> int | np.ndarray:
        """Closed form of the number of positions that bear loss: codes, EOP (EOS in the last one's place), EOS."""
        if self.order == "valle":
            return num_frames + 1
        return num_frames + num_phones + int(self.eop_input)


@dataclasses.dataclass(frozen=True, eq=False)
class HybridSequence:
    """One utterance as the GAR sees it: int32 inputs [L] and targets [L] (0 where no loss is borne), bool loss_mask [L]."""

    inputs_L: np.ndarray
    targets_L: np.ndarray
    loss_mask_L: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs_L)


def advance_durations(durations_N: np.ndarray, local_advance: int) -> np.ndarray:
    """True durations [N] (frames, each ≥ 1) → durations in the sequence, boundaries moved `local_advance` frames ahead.

    b′ᵢ = max(bᵢ − k, b′ᵢ₋₁ + 1) for i < n, b′ₙ = T: no phone is left without a frame.
    """
    durations_N = np.asarray(durations_N, np.int32)
    if local_advance == 0 or len(durations_N) == 1:
        return durations_N
    ends_N = np.cumsum(durations_N)
    # b′ᵢ − i = max over j ≤ i of (bⱼ − k − j), and at least 0: the recursion as a running maximum.
    index_N = np.arange(1, len(ends_N) + 1)
    advanced_N = index_N + np.maximum.accumulate(np.maximum(ends_N - local_advance - index_N, 0))
    advanced_N[-1] = ends_N[-1]
    return np.diff(advanced_N, prepend=0).astype(np.int32)


def restore_durations(advanced_N: np.ndarray, local_advance: int) -> np.ndarray:
    """Durations in the sequence [N] → durations in the audio [N]: bᵢ = min(b′ᵢ + k, T − (n − i)) for i < n.

    Gives the true durations back when the first exceeds k and no phone was clipped to one frame.
    """
    advanced_N = np.asarray(advanced_N, np.int32)
    if local_advance == 0 or len(advanced_N) == 1:
        return advanced_N
    ends_N = np.cumsum(advanced_N)
    last_N = ends_N[-1] - np.arange(len(ends_N) - 1, -1, -1)
    return np.diff(np.minimum(ends_N + local_advance, last_N), prepend=0).astype(np.int32)


def durations_behind_sequence(durations_N: np.ndarray, local_advance: int) -> np.ndarray:
    """True durations [N] → as they come back from the sequence [N]: the NAR's phone track, in training as in synthesis."""
    return restore_durations(advance_durations(durations_N, local_advance), local_advance)


def build_sequence(
    phones_N: np.ndarray, durations_N: np.ndarray, codes_T: np.ndarray, layout: LayoutConfig, vocabulary: Vocabulary
) -> HybridSequence:
    """Builds the sequence of one utterance.

    phones_N: phone ids. durations_N: frames of each phone, ≥ 1, summing to T. codes_T: codes of RVQ layer 1.
    Raises ValueError when these disagree.
    """
    phones_N, durations_N, codes_T = (np.asarray(a, np.int32) for a in (phones_N, durations_N, codes_T))
    _check_alignment(phones_N, durations_N, len(codes_T))
    tokens_N = vocabulary.phone_tokens(phones_N)
    num_phones, num_frames = len(phones_N), len(codes_T)
    prefix = [tokens_N, [BOS]] if layout.global_advance else [[BOS]]
    if not layout.interleaved:
        inputs_L = np.concatenate([*prefix, codes_T])
        targets_L = np.zeros_like(inputs_L)
        targets_L[num_phones:] = np.append(codes_T, EOS)
        return HybridSequence(inputs_L, targets_L, np.arange(len(inputs_L)) >= num_phones)

    advanced_N = advance_durations(durations_N, layout.local_advance)
    extra = 2 if layout.eop_input else 1  # positions a phone adds to its codes: itself, and EOP
    phone_at_N = np.cumsum(advanced_N + extra) - advanced_N - extra
    last_frame_at_N = phone_at_N + advanced_N
    frame_at_T = np.arange(num_frames) + 1 + extra * np.repeat(np.arange(num_phones), advanced_N)

    body_M = np.empty(num_frames + extra * num_phones, np.int32)
    body_M[phone_at_N] = tokens_N
    body_M[frame_at_T] = codes_T
    target_M = np.zeros_like(body_M)
    loss_M = np.ones(len(body_M), bool)
    target_M[frame_at_T - 1] = codes_T  # what precedes a frame predicts it; last frames are set next
    target_M[last_frame_at_N] = EOP
    if layout.eop_input:
        body_M[last_frame_at_N + 1] = EOP
        loss_M[last_frame_at_N[:-1] + 1] = False  # EOP is followed by a phone that is given
    target_M[-1] = EOS

    head = np.concatenate(prefix).astype(np.int32)
    return HybridSequence(
        np.concatenate([head, body_M]),
        np.concatenate([np.zeros_like(head), target_M]),
        np.concatenate([np.zeros(len(head), bool), loss_M]),
    )


def parse_sequence(sequence: HybridSequence, layout: LayoutConfig) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The inverse: → phone ids [N], durations [N] in the audio (None for "valle", which holds none), codes [T].

    `build_sequence` of the result gives the same sequence back, for every sequence that it can make. Raises ValueError
    when inputs or targets are not a sequence of this layout, naming the first position that differs.
    """
    inputs_L = np.asarray(sequence.inputs_L, np.int32)
    bos_at = np.flatnonzero(inputs_L == BOS)
    if len(bos_at) != 1:
        raise ValueError(f"a sequence holds BOS once; found it {len(bos_at)} times")
    head, body_M = inputs_L[: bos_at[0]], inputs_L[bos_at[0] + 1 :]
    if np.any(head < FIRST_PHONE):
        raise ValueError(f"position {int(np.argmax(head < FIRST_PHONE))}: only phones stand ahead of BOS")
    codes_T = body_M[body_M < NUM_CODES]
    if layout.interleaved:
        phone_at_N = np.flatnonzero(body_M >= FIRST_PHONE)
        tokens_N = body_M[phone_at_N]
        extra = 2 if layout.eop_input else 1
        advanced_N = np.diff(phone_at_N, append=len(body_M)) - extra
        durations_N = restore_durations(advanced_N, layout.local_advance) if len(advanced_N) else advanced_N
    else:
        tokens_N, durations_N = head, None
    phones_N = tokens_N - FIRST_PHONE
    if not len(phones_N) or not len(codes_T):
        raise ValueError(f"a sequence holds phones and codes; found {len(phones_N)} phones and {len(codes_T)} codes")
    vocabulary = Vocabulary(int(max(inputs_L.max() - FIRST_PHONE, 0)) + 1)
    # What build_sequence makes of the parts is the definition of a well-formed sequence. For "valle" any durations do.
    any_durations = _spread(len(codes_T), len(phones_N)) if durations_N is None else durations_N
    rebuilt = build_sequence(phones_N, any_durations, codes_T, layout, vocabulary)
    for name in ("inputs_L", "targets_L", "loss_mask_L"):
        found, expected = getattr(sequence, name), getattr(rebuilt, name)
        if len(found) != len(expected) or np.any(found != expected):
            shared = min(len(found), len(expected))
            at = int(np.argmax(np.append(found[:shared] != expected[:shared], True)))
            raise ValueError(f'not a sequence of layout "{layout.order}": {name[:-2]} differ first at position {at}')
    return phones_N, durations_N, codes_T


def _spread(num_frames: int, num_phones: int) -> np.ndarray:
    return np.diff(np.arange(num_phones + 1) * num_frames // num_phones)


def _check_alignment(phones_N: np.ndarray, durations_N: np.ndarray, num_frames: int) -> None:
    if len(phones_N) != len(durations_N):
        raise ValueError(f"{len(phones_N)} phones but {len(durations_N)} durations")
    if not len(phones_N):
        raise ValueError("an utterance needs at least one phone")
    if durations_N.min() < 1:
        raise ValueError(f"phone {int(durations_N.argmin())} has {durations_N.min()} frames; each needs at least 1")
    if durations_N.sum() != num_frames:
        raise ValueError(f"alignment covers {durations_N.sum()} frames, codes have {num_frames}")


def decoding_prefix(
    prompt_phones_P: np.ndarray,
    prompt_durations_P: np.ndarray,
    prompt_codes_T: np.ndarray,
    phones_N: np.ndarray,
    layout: LayoutConfig,
    vocabulary: Vocabulary,
) -> tuple[np.ndarray, np.ndarray]:
    """What stands ahead of the first code to decode, when `phones_N` are spoken after a prompt of P phones and T frames.

    → input tokens, int32; and the advanced durations of the prompt's phones with, behind them, the frames of the prompt
    that fall into the first phone to speak (0 without local advance), int32 [P + 1]. In layout "valle" the latter are
    [0] alone, as nothing is fed.
    """
    prompt_codes_T = np.asarray(prompt_codes_T, np.int32)
    tokens = vocabulary.phone_tokens(np.concatenate([prompt_phones_P, phones_N]))
    prefix = [tokens, [BOS]] if layout.global_advance else [[BOS]]
    if not layout.interleaved:
        return np.concatenate([*prefix, prompt_codes_T]).astype(np.int32), np.zeros(1, np.int32)
    # The first phone to speak is at hand for as long as the local advance needs, and its codes beyond the prompt cut off.
    beyond = layout.local_advance + 1
    durations = np.append(prompt_durations_P, beyond)
    advanced = advance_durations(durations, layout.local_advance)
    body = build_sequence(
        np.append(prompt_phones_P, phones_N[0]),
        advanced,
        np.append(prompt_codes_T, np.zeros(beyond, np.int32)),
        dataclasses.replace(layout, global_advance=False, local_advance=0),
        vocabulary,
    ).inputs_L[1 : -beyond - int(layout.eop_input)]
    advanced[-1] -= beyond
    return np.concatenate([*prefix, body]).astype(np.int32), advanced
