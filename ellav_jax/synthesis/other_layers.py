"""Layers 2 to 8 by the NAR, several sentences at a time."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ellav_jax.models.nar import NUM_LAYERS, NarInputs, nar_segment
from ellav_jax.synthesis.decode import decode_nar
from ellav_jax.synthesis.placement import Placement
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.shapes import row_length, rows_at_a_time
from ellav_jax.synthesis.trained_model import TrainedModel


@dataclasses.dataclass(frozen=True, eq=False)
class Unfilled:
    """A sentence with its context: phone ids [N], frames of each [N], codes int32 [T, 8] of which given_T have all layers,
    the others only the first."""

    phones_N: np.ndarray
    durations_N: np.ndarray
    codes_Tx8: np.ndarray
    given_T: np.ndarray

    @classmethod
    def behind(cls, prompt: Prompt, phones: np.ndarray, durations: np.ndarray, codes_T: np.ndarray) -> "Unfilled":
        """Layer 1 behind a prompt. phones, durations: those of both, [P + N]."""
        given = len(prompt.codes_Tx8)
        codes_Tx8 = np.zeros((given + len(codes_T), NUM_LAYERS), np.int32)
        codes_Tx8[:given] = prompt.codes_Tx8
        codes_Tx8[given:, 0] = codes_T
        return cls(phones, durations, codes_Tx8, np.arange(len(codes_Tx8)) < given)


def fill_batch(
    nar: TrainedModel,
    sentences: Sequence[Unfilled],
    batch_size: int = 1,
    placement: Placement = Placement(),
    temperature: float = 0.0,
) -> list[np.ndarray]:
    """→ codes int32 [T, 8] of each sentence; those given are as they were.

    batch_size: at most so many at a time. temperature: as `SamplingConfig.nar_temperature`.
    """
    lengths = [row_length(len(one.phones_N) + len(one.codes_Tx8)) for one in sentences]
    filled: list[np.ndarray | None] = [None] * len(sentences)
    for length in sorted(set(lengths)):
        members = [index for index, one in enumerate(lengths) if one == length]
        rows = rows_at_a_time(length, batch_size, placement.multiple)
        for begin in range(0, len(members), rows):
            part = members[begin : begin + rows]
            for index, codes_Tx8 in zip(
                part, _fill(nar, [sentences[i] for i in part], length, rows, placement, temperature), strict=True
            ):
                filled[index] = codes_Tx8
    return filled


def fill_layers(
    nar: TrainedModel, prompt: Prompt, phones: np.ndarray, durations: np.ndarray, codes_T: np.ndarray
) -> np.ndarray:
    """Layer 1 behind a prompt → codes int32 [T, 8] of both. phones, durations: those of both, [P + N]."""
    return fill_batch(nar, [Unfilled.behind(prompt, phones, durations, codes_T)])[0]


def _fill(
    nar: TrainedModel,
    sentences: Sequence[Unfilled],
    length: int,
    rows: int,
    placement: Placement,
    temperature: float,
) -> list[np.ndarray]:
    # Padding of zeros: segment id 0, no frames, nothing known.
    empty = {field.name: np.zeros((rows, length), np.int32) for field in dataclasses.fields(NarInputs)}
    empty["codes"] = np.zeros((rows, length, NUM_LAYERS), np.int32)
    empty["is_frame"] = np.zeros((rows, length), bool)
    for row, one in enumerate(sentences):
        arrays = nar_segment(one.phones_N, one.durations_N, one.codes_Tx8, 0, stage=2)
        n, used = len(one.phones_N), len(one.phones_N) + len(one.codes_Tx8)
        arrays["known"][n:][one.given_T] = NUM_LAYERS
        arrays |= {"segment_ids": np.ones(used, np.int32), "positions": np.arange(used, dtype=np.int32)}
        for name, array in arrays.items():
            empty[name][row, :used] = array
    with placement.context():
        inputs = NarInputs(**placement.rows(empty))
        codes_BxRx8 = np.asarray(decode_nar(nar.definition, nar.params, inputs, np.float32(temperature)))
    return [
        codes_BxRx8[row, len(one.phones_N) : len(one.phones_N) + len(one.codes_Tx8)]
        for row, one in enumerate(sentences)
    ]
