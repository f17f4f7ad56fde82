"""How well a GAR predicts held-out layer-1 codes when all before them is given, beside what the phone alone tells."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from ellav_jax.frontend.inventory import SIL
from ellav_jax.hybrid_sequence import HybridSequence, LayoutConfig, advance_durations, build_sequence
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.synthesis.shapes import round_up
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.training.cross_entropy import cross_entropy
from ellav_jax.vocabulary import NUM_CODES, PAD, Vocabulary

SMOOTHING = 0.1
"""Added to each count of the unigram. On the bundled speech it makes a better baseline than 1 (5.43 nats against 5.50)."""
ROWS = 8
"""Utterances of similar length that run side by side."""


class AlignedCodes(Protocol):
    """An utterance: phone ids [N], frames of each [N], RVQ codes [T, 8]."""

    phones_N: np.ndarray
    durations_N: np.ndarray
    codes_Tx8: np.ndarray


@dataclasses.dataclass(frozen=True)
class TeacherForced:
    """Figures over the held-out frames whose phone isn't silence.

    accuracy, cross_entropy (nats a code): the GAR's, with EOP and EOS among its choices at every frame, and so counted
    against it. constant_accuracy: always guessing the phone's most frequent code of the training split.
    unigram_cross_entropy: of the phone's code frequencies in the training split, `SMOOTHING` added to each count.
    """

    frames: int
    accuracy: float
    cross_entropy: float
    constant_accuracy: float
    unigram_cross_entropy: float

    @property
    def accuracy_ratio(self) -> float:
        """How many times as often as the constant guess the GAR is right; infinite where that never is."""
        return self.accuracy / self.constant_accuracy if self.constant_accuracy else math.inf

    @property
    def margin(self) -> float:
        """Nats a code by which the GAR is below the unigram."""
        return self.unigram_cross_entropy - self.cross_entropy


def teacher_forced(
    gar: TrainedModel,
    layout: LayoutConfig,
    phones: Sequence[str],
    train: Iterable[AlignedCodes],
    held_out: Iterable[AlignedCodes],
) -> TeacherForced:
    """Measures `gar` on `held_out` and counts the baselines on `train`.

    layout: that of the GAR. phones: names of the inventory. A frame's phone is the one that it stands behind in the
    sequence: with a local advance, the one that the model knows there. Raises ValueError when either split has no frame
    other than silence.
    """
    held_out = list(held_out)
    silence = phones.index(SIL) if SIL in phones else None
    counts_PxC = np.zeros((len(phones), NUM_CODES), np.int64)
    for one in train:
        np.add.at(counts_PxC, _spoken(one, layout, silence), 1)
    spoken = [_spoken(one, layout, silence) for one in held_out]
    if not any(len(codes) for _, codes in spoken) or not counts_PxC.any():
        raise ValueError("teacher forcing wants frames of speech in both splits; one of them has none")
    phones_F, codes_F = (np.concatenate(parts) for parts in zip(*spoken, strict=True))

    # A phone that the training split lacks gets the most frequent code of all phones.
    guesses_P = np.where(counts_PxC.any(axis=1), counts_PxC.argmax(axis=1), counts_PxC.sum(axis=0).argmax())
    smoothed_PxC = counts_PxC + SMOOTHING
    unigram_PxC = smoothed_PxC / smoothed_PxC.sum(axis=1, keepdims=True)
    losses_F, correct_F = _score(gar, layout, len(phones), silence, held_out)
    return TeacherForced(
        frames=len(codes_F),
        accuracy=float(correct_F.mean()),
        cross_entropy=float(losses_F.mean(dtype=np.float64)),
        constant_accuracy=float(np.mean(guesses_P[phones_F] == codes_F)),
        unigram_cross_entropy=float(-np.log(unigram_PxC[phones_F, codes_F]).mean()),
    )


def _phone_track(utterance: AlignedCodes, layout: LayoutConfig) -> np.ndarray:
    """The phone that each frame stands behind, int32 [T]."""
    durations_N = advance_durations(utterance.durations_N, layout.local_advance)
    return np.repeat(np.asarray(utterance.phones_N, np.int32), durations_N)


def _spoken(utterance: AlignedCodes, layout: LayoutConfig, silence: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Phones and layer-1 codes of the frames that aren't silence."""
    phones_T = _phone_track(utterance, layout)
    kept_T = phones_T != silence
    return phones_T[kept_T], utterance.codes_Tx8[kept_T, 0]


def _score(
    gar: TrainedModel, layout: LayoutConfig, num_phones: int, silence: int | None, utterances: Sequence[AlignedCodes]
) -> tuple[np.ndarray, np.ndarray]:
    """Losses (nats, float32 [F]) of the codes of all frames that aren't silence, and whether each was the first choice."""
    vocabulary = Vocabulary(num_phones)
    sequences = [
        build_sequence(one.phones_N, one.durations_N, one.codes_Tx8[:, 0], layout, vocabulary) for one in utterances
    ]
    score = _scorer(gar.definition)
    by_length = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    losses, correct = [], []
    for start in range(0, len(by_length), ROWS):
        chosen = by_length[start : start + ROWS]
        losses_BxL, correct_BxL = jax.device_get(score(gar.params, _batch([sequences[index] for index in chosen])))
        for row, index in enumerate(chosen):
            sequence = sequences[index]
            at_T = np.flatnonzero(sequence.loss_mask_L & (sequence.targets_L < NUM_CODES))
            at_F = at_T[_phone_track(utterances[index], layout) != silence]
            losses.append(losses_BxL[row, at_F])
            correct.append(correct_BxL[row, at_F])
    return np.concatenate(losses), np.concatenate(correct)


def _scorer(definition: ModelDefinition) -> Callable[[Any, Mapping[str, np.ndarray]], tuple[jax.Array, jax.Array]]:
    @jax.jit
    def score(params: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        logits_BxLxV = definition.merge(params)(batch["inputs"], batch["segment_ids"], batch["positions"])
        losses_BxL, _ = cross_entropy(logits_BxLxV, batch["targets"])
        return losses_BxL, logits_BxLxV.argmax(-1) == batch["targets"]

    return score


def _batch(sequences: Sequence[HybridSequence]) -> dict[str, np.ndarray]:
    """ROWS rows of one sequence each, rounded up in length so that few shapes are compiled."""
    length = round_up(max(map(len, sequences)), 256)
    batch = {
        "inputs": np.full((ROWS, length), PAD, np.int32),
        "targets": np.zeros((ROWS, length), np.int32),
        "segment_ids": np.zeros((ROWS, length), np.int32),
        "positions": np.broadcast_to(np.arange(length, dtype=np.int32), (ROWS, length)),
    }
    for row, sequence in enumerate(sequences):
        batch["inputs"][row, : len(sequence)] = sequence.inputs_L
        batch["targets"][row, : len(sequence)] = sequence.targets_L
        batch["segment_ids"][row, : len(sequence)] = 1
    return batch
