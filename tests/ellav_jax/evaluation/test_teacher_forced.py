import collections
import math
import types

import jax
import numpy as np
import pytest

from data_pipelines.records import Dataset
from ellav_jax.evaluation.teacher_forced import ROWS, SMOOTHING, teacher_forced
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.vocabulary import BOS, EOP, FIRST_PHONE, NUM_CODES, Vocabulary

LAYOUTS = [
    LayoutConfig(),
    LayoutConfig(order="paper", global_advance=False),
    LayoutConfig(local_advance=3),
    LayoutConfig(order="valle"),
]


def tiny_gar(num_phones: int) -> TrainedModel:
    size = TransformerConfig.llama(
        num_layers=1, num_heads=2, width=16, ff_width=32, dropout=0.0, dtype="float32", remat="none"
    )
    definition = ModelDefinition.of(lambda key: Gar(GarConfig(size), Vocabulary(num_phones), key))
    # Larger weights than those that training starts from, so that predictions differ from code to code.
    return TrainedModel(definition, jax.tree.map(lambda leaf: 4 * leaf, definition.init(jax.random.key(1))))


def utterance(phones, durations, codes):
    codes = np.repeat(np.array(codes, np.uint16)[:, None], 8, axis=1)
    return types.SimpleNamespace(
        phones_N=np.array(phones, np.uint16), durations_N=np.array(durations, np.int32), codes_Tx8=codes
    )


def frames(record, layout):
    """(phone that the frame stands behind, its code, whether the phone ends with it), frame by frame."""
    ends, before = [], 0
    for end in np.cumsum(record.durations_N)[:-1].tolist():
        before = max(end - layout.local_advance, before + 1)
        ends.append(before)
    ends.append(record.codes_Tx8.shape[0])
    phones, frame = [], 0
    for phone, end in zip(record.phones_N.tolist(), ends, strict=True):
        phones += [phone] * (end - frame)
        frame = end
    is_last = [frame + 1 in ends for frame in range(ends[-1])]
    return list(zip(phones, record.codes_Tx8[:, 0].tolist(), is_last, strict=True))


def tokens_and_code_positions(record, layout):
    """The input written out token by token, and for each frame the position whose output predicts its code."""
    tokens = [FIRST_PHONE + phone for phone in record.phones_N.tolist()] if layout.global_advance else []
    tokens.append(BOS)
    positions, new_phone, phones = [], True, iter(record.phones_N.tolist())
    for _, code, is_last in frames(record, layout):
        if new_phone and layout.interleaved:
            tokens.append(FIRST_PHONE + next(phones))
        positions.append(len(tokens) - 1)
        tokens.append(code)
        if is_last and layout.eop_input:
            tokens.append(EOP)
        new_phone = is_last
    return tokens, positions


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.order}-{layout.local_advance}")
def test_figures_are_those_of_a_frame_by_frame_count(prepared_bundled, layout):
    dataset = Dataset.open(prepared_bundled)
    phones = dataset.frontend.phones
    # The larger split is held out here, for more than one batch.
    train, held_out = list(dataset.records("test")), list(dataset.records("train"))[: ROWS + 3]
    assert len(held_out) == ROWS + 3
    gar = tiny_gar(len(phones))
    found = teacher_forced(gar, layout, phones, train, held_out)

    counts = collections.defaultdict(collections.Counter)
    for record in train:
        for phone, code, _ in frames(record, layout):
            if phones[phone] != "SIL":
                counts[phone][code] += 1
    overall = sum(counts.values(), collections.Counter())
    model = gar.definition.merge(gar.params)
    run = jax.jit(lambda tokens: model(tokens, 0 * tokens + 1, jax.numpy.arange(tokens.shape[1])[None]))
    losses, correct, guessed, unigram = [], [], [], []
    for record in held_out:
        tokens, positions = tokens_and_code_positions(record, layout)
        # Behind the last token nothing can matter to a causal model; the length is rounded for fewer compilations.
        padded = np.pad(np.array(tokens, np.int32), (0, -len(tokens) % 512))[None]
        logits = np.asarray(run(padded)[0], np.float64)
        for (phone, code, _), position in zip(frames(record, layout), positions, strict=True):
            if phones[phone] == "SIL":
                continue
            row = logits[position]
            losses.append(math.log(np.exp(row - row.max()).sum()) + row.max() - row[code])
            correct.append(row.argmax() == code)
            most = (counts[phone] or overall).most_common(1)[0][1]
            ties = {one for one, count in (counts[phone] or overall).items() if count == most}
            guessed.append(min(ties) == code)
            total = sum(counts[phone].values()) + SMOOTHING * NUM_CODES
            unigram.append(-math.log((counts[phone][code] + SMOOTHING) / total))
    assert found.frames == len(losses)
    assert found.accuracy == pytest.approx(np.mean(correct), abs=1e-9)
    assert found.cross_entropy == pytest.approx(np.mean(losses), abs=1e-4)
    assert found.constant_accuracy == pytest.approx(np.mean(guessed), abs=1e-9)
    assert found.unigram_cross_entropy == pytest.approx(np.mean(unigram), abs=1e-9)
    assert found.margin == pytest.approx(np.mean(unigram) - np.mean(losses), abs=1e-4)


def test_a_phone_that_training_lacks_is_guessed_as_the_most_frequent_code_of_speech():
    phones = ("SIL", "AA", "B")
    train = [utterance([0, 1, 0], [3, 3, 1], [9, 9, 9, 5, 5, 7, 9])]
    held_out = [utterance([0, 2], [1, 4], [9, 5, 5, 9, 7])]
    found = teacher_forced(tiny_gar(3), LayoutConfig(), phones, train, held_out)
    assert found.frames == 4
    assert found.constant_accuracy == 0.5
    assert found.unigram_cross_entropy == pytest.approx(math.log(NUM_CODES))


def test_a_guess_that_is_never_right_leaves_no_ratio():
    phones = ("SIL", "AA")
    train, held_out = [utterance([1], [2], [5, 5])], [utterance([1], [2], [6, 7])]
    found = teacher_forced(tiny_gar(2), LayoutConfig(), phones, train, held_out)
    assert found.constant_accuracy == 0
    assert found.accuracy_ratio == math.inf


@pytest.mark.parametrize("empty", ["train", "held_out"])
@pytest.mark.parametrize("records", [[], [utterance([0], [2], [1, 2])]], ids=["nothing", "silence alone"])
def test_a_split_without_speech_is_refused(empty, records):
    splits = {name: [utterance([1], [2], [5, 5])] for name in ("train", "held_out")} | {empty: records}
    with pytest.raises(ValueError, match="frames of speech in both splits"):
        teacher_forced(tiny_gar(2), LayoutConfig(), ("SIL", "AA"), **splits)
