"""Layer 1 behind a left context: durations in the audio → rows for the GAR's decoder, and back.

Arrays: P phones and T frames to the left, N phones to speak. Frames are those of the audio unless they are said to be
of the sequence, in which phones end `local_advance` frames earlier.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig, decoding_prefix, restore_durations
from ellav_jax.synthesis.decode import GarRequest, decode_gar
from ellav_jax.synthesis.limits import NO_CAP, PhoneLimits
from ellav_jax.synthesis.placement import Placement
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.shapes import GarShape, gar_shape
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.vocabulary import BOS, FIRST_PHONE, PAD, Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Stretch:
    """Phones to speak behind a left context.

    phones_N: ids. floors_N, caps_N: least and most frames of each; `NO_CAP` for none. right_R: ids of phones that follow
    and are not spoken (in an edit), which the global advance shows.
    """

    left: Prompt
    phones_N: np.ndarray
    floors_N: np.ndarray
    caps_N: np.ndarray
    seed: int = 0
    right_R: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class FirstLayer:
    """What a GAR said behind a prompt: codes_T of layer 1, and the durations [P + N] of the prompt's phones and those said.

    calls, finished: as in `Speech`.
    """

    codes_T: np.ndarray
    durations: np.ndarray
    calls: int
    finished: bool


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
    """A stretch in the sequence's terms: `prefix` up to and with the first phone that the GAR decides on, `fed` tokens of it
    and those behind it, their floors and caps, frames of the first that the prefix holds, durations of all phones ahead."""

    prefix: np.ndarray
    fed: np.ndarray
    floors: np.ndarray
    caps: np.ndarray
    started: int
    ahead: np.ndarray


def free_stretch(
    left: Prompt, phones_N: np.ndarray, limits: PhoneLimits, inventory: Sequence[str], frame_rate: int, seed: int
) -> Stretch:
    """Phones within the limits alone."""
    caps_N = np.array([limits.cap(inventory[phone], frame_rate) for phone in phones_N])
    return Stretch(left, phones_N, np.full(len(phones_N), limits.min_frames), caps_N, seed)


def shape_of(stretch: Stretch, layout: LayoutConfig, frame_rate: int, max_frames: int | None) -> GarShape:
    """The shape that a stretch is decoded in. Raises InputError where it fits none, or its floors pass max_frames."""
    left, ahead = stretch.left, len(stretch.phones_N) + len(stretch.right_R)
    least = int(stretch.floors_N.sum()) + (max(layout.local_advance, 1) if len(stretch.right_R) else 0)
    if max_frames is not None and least >= max_frames:
        raise InputError(
            f"the phones last {least} frames or more, but a sentence is cut off at {max_frames} (--max-seconds); raise that"
        )
    # Ahead of the first code stand all phones (if so), BOS, the left context, and the first phones.
    rest = layout.num_inputs(len(left.phones_P), len(left.codes_Tx8)) + int(layout.interleaved)
    rest += (1 + layout.eop_input) * layout.local_advance
    return gar_shape(rest, ahead, least, frame_rate, layout.global_advance, max_frames)


def decode_stretches(
    gar: TrainedModel,
    layout: LayoutConfig,
    num_phones: int,
    stretches: Sequence[Stretch],
    shape: GarShape,
    sampling: SamplingConfig,
    batch_size: int = 1,
    placement: Placement = Placement(),
) -> list[FirstLayer]:
    """Decodes up to batch_size stretches at once, in rows of one shape. num_phones: size of the inventory."""
    vocabulary = Vocabulary(num_phones)
    rows = [_row(stretch, layout, vocabulary) for stretch in stretches]
    # Rows without a sentence end at once.
    nothing = _Row(np.array([BOS]), np.array([FIRST_PHONE]), np.ones(1), np.ones(1), 0, np.zeros(0))
    padded = [*rows, *[nothing] * (batch_size - len(rows))]
    seeds = [stretch.seed for stretch in stretches] + [0] * (batch_size - len(rows))

    def column(values: Sequence[np.ndarray], size: int, fill: int) -> np.ndarray:
        return np.stack([np.pad(one, (0, size - len(one)), constant_values=fill) for one in values]).astype(np.int32)

    def lengths(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([len(one) for one in values], np.int32)

    with placement.context():
        by_row = placement.rows(
            {
                "prefix_BxS": column([row.prefix for row in padded], shape.prefix, PAD),
                "prefix_length_B": lengths([row.prefix for row in padded]),
                "phones_BxN": column([row.fed for row in padded], shape.phones, PAD),
                "num_phones_B": lengths([row.fed for row in padded]),
                "floor_BxN": column([row.floors for row in padded], shape.phones, 1),
                "cap_BxN": column([row.caps for row in padded], shape.phones, 1),
                "started_B": np.array([row.started for row in padded], np.int32),
                "keys_B": jax.vmap(jax.random.key)(np.array([seed & 0xFFFFFFFF for seed in seeds], np.uint32)),
            }
        )
        result = jax.device_get(
            decode_gar(
                gar.definition,
                gar.params,
                GarRequest(**by_row, sampling=sampling.settings()),
                eop_input=layout.eop_input,
                max_frames=shape.frames,
            )
        )
    return [
        _first_layer(
            stretch,
            row,
            layout,
            result.codes_BxF[at, : result.num_frames_B[at]],
            result.durations_BxN[at, : len(row.fed)],
            bool(result.finished_B[at]),
            int(result.calls_B[at]),
        )
        for at, (stretch, row) in enumerate(zip(stretches, rows, strict=True))
    ]


def _row(stretch: Stretch, layout: LayoutConfig, vocabulary: Vocabulary) -> _Row:
    left, phones_N, advance = stretch.left, stretch.phones_N, layout.local_advance
    floors, caps = stretch.floors_N.astype(np.int64), stretch.caps_N.astype(np.int64)
    behind = np.concatenate([phones_N, stretch.right_R]).astype(np.int32)
    prompt = (left.phones_P, left.durations_P, left.codes_Tx8[:, 0])
    if not layout.interleaved:
        # Nothing is fed: one stretch of speech, which EOS ends.
        prefix, _ = decoding_prefix(*prompt, behind, layout, vocabulary)
        cap = np.minimum(caps.sum(keepdims=True), NO_CAP)
        return _Row(prefix, vocabulary.phone_tokens(phones_N[:1]), floors[:1], cap, 0, left.durations_P)
    fed = phones_N
    if len(stretch.right_R):
        # The first phone on the right is fed, and ends what is decoded: with those frames by which it came early.
        fed = behind[: len(phones_N) + 1]
        floors, caps = (np.append(values, max(advance, 1)) for values in (floors, caps))
    else:
        # In the sequence the last phone has its frames and those by which the one before it ended early.
        floors[-1] += advance
        caps[-1] += advance
    # Phones that end before the GAR has a say: the prefix holds `advance` frames of what follows it already.
    early, frames = 0, 0
    while early < len(fed) - 1 and caps[early] < advance - frames:
        frames += int(caps[early])
        early += 1
    prefix, ahead = decoding_prefix(
        np.concatenate([left.phones_P, phones_N[:early]]),
        np.concatenate([left.durations_P, caps[:early]]),
        np.pad(left.codes_Tx8[:, 0], (0, frames)),
        behind[early:],
        layout,
        vocabulary,
    )
    started = int(ahead[-1]) - frames
    ends = len(left.codes_Tx8) + np.cumsum([0, *caps[:early]])
    in_time = np.all(np.cumsum(ahead)[len(left.phones_P) - 1 : -1] == ends - advance)
    fed, floors, caps = fed[early:], floors[early:], caps[early:]
    # Left contexts of hardly more frames than phones have no room for all of the advance.
    missing = advance - frames - started
    floors[0] = max(floors[0] - missing, 1)
    caps[0] -= missing
    if (early and not in_time) or caps[0] < max(started, 1):
        raise InputError(
            f"{len(left.phones_P)} phones in {len(left.codes_Tx8)} frames are too short a prompt for a local advance of "
            f"{advance} frames and a first phone of at most {int(stretch.caps_N[0])}; give a longer one"
        )
    prefix = prefix[: len(prefix) - frames]
    return _Row(prefix, vocabulary.phone_tokens(fed), floors, np.minimum(caps, NO_CAP), started, ahead[:-1])


def _first_layer(
    stretch: Stretch,
    row: _Row,
    layout: LayoutConfig,
    codes_T: np.ndarray,
    spoken: np.ndarray,
    finished: bool,
    calls: int,
) -> FirstLayer:
    advance, given = layout.local_advance, len(stretch.left.codes_Tx8)
    if not layout.interleaved:
        spoken = np.diff(np.arange(len(stretch.phones_N) + 1) * len(codes_T) // len(stretch.phones_N))
        return FirstLayer(codes_T, np.concatenate([row.ahead, spoken]).astype(np.int32), calls, finished)
    durations = np.concatenate([row.ahead, spoken]).astype(np.int32)
    if finished and not len(stretch.right_R):
        return FirstLayer(codes_T, restore_durations(durations, advance), calls, finished)
    if len(stretch.right_R):
        durations = durations[:-1]
        # Without local advance the phone on the right had to have a frame to end: it is not ours.
        codes_T = codes_T[: max(int(durations.sum()) + advance - given, 0)]
    ends = np.minimum(np.cumsum(durations) + advance, given + len(codes_T))
    return FirstLayer(codes_T, np.diff(ends, prepend=0).astype(np.int32), calls, finished)


def speak_layer_1(
    gar: TrainedModel,
    layout: LayoutConfig,
    inventory: Sequence[str],
    frame_rate: int,
    prompt: Prompt,
    phones_N: np.ndarray,
    limits: PhoneLimits,
    sampling: SamplingConfig,
) -> FirstLayer:
    """Decodes layer 1 of phones [N] (ids in `inventory`) behind a prompt, with the GAR whose layout is `layout`."""
    stretch = free_stretch(prompt, phones_N, limits, inventory, frame_rate, sampling.seed)
    shape = shape_of(stretch, layout, frame_rate, most_frames(limits, frame_rate))
    return decode_stretches(gar, layout, len(inventory), [stretch], shape, sampling)[0]


def most_frames(limits: PhoneLimits, frame_rate: int) -> int | None:
    """Frames at which a sentence is cut off, where the limits set them."""
    return None if limits.max_seconds is None else max(round(limits.max_seconds * frame_rate), 1)
