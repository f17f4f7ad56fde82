"""Losses against NumPy, and sums that a batch may be cut into."""

import jax
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.models.nar import NarInputs
from ellav_jax.training.cross_entropy import LossConfig, cross_entropy
from ellav_jax.training.losses import gar_sums, nar_sums

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _numpy_cross_entropy(logits, targets):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    probability = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(probability, np.asarray(targets)[..., None], -1)[..., 0])


def test_cross_entropy_is_minus_the_log_of_the_targets_probability():
    rng = np.random.default_rng(0)
    logits, targets = 30 * rng.normal(size=(3, 5, 11)).astype(np.float32), rng.integers(0, 11, (3, 5))
    losses, objectives = cross_entropy(logits, targets, LossConfig())
    np.testing.assert_allclose(losses, _numpy_cross_entropy(logits, targets), atol=2e-5)
    np.testing.assert_array_equal(losses, objectives)


def test_z_loss_and_label_smoothing_change_what_is_minimised_and_not_what_is_told():
    rng = np.random.default_rng(0)
    logits, targets = 3 * rng.normal(size=(4, 11)).astype(np.float32), rng.integers(0, 11, 4)
    losses, objectives = cross_entropy(logits, targets, LossConfig(z_loss=0.01, label_smoothing=0.1))
    np.testing.assert_allclose(losses, _numpy_cross_entropy(logits, targets), atol=2e-6)
    of_all = np.stack([_numpy_cross_entropy(logits, np.full(4, c)) for c in range(11)]).mean(0)
    log_z = np.log(np.exp(logits.astype(np.float64)).sum(-1))
    expected = 0.9 * _numpy_cross_entropy(logits, targets) + 0.1 * of_all + 0.01 * log_z**2
    np.testing.assert_allclose(objectives, expected, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"z_loss": -1.0}, {"label_smoothing": 1.0}, {"label_smoothing": -0.1}])
def test_a_weight_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        LossConfig(**wrong)


def _gar_batch(vocabulary, rows=4, length=24, seed=0):
    rng = np.random.default_rng(seed)
    at = np.broadcast_to(np.arange(length), (rows, length))
    ends = rng.integers(length // 2, length + 1, (rows, 1))
    segment_ids = np.where(at < ends, 1 + (at >= length // 3), 0)
    return {
        "inputs": rng.integers(0, vocabulary.size, (rows, length)).astype(np.int32),
        "targets": rng.choice([0, 5, 1023, 1024, 1025], (rows, length)).astype(np.int32),
        "loss_mask": (rng.random((rows, length)) < 0.7) & (segment_ids > 0),
        "segment_ids": segment_ids.astype(np.int32),
        "positions": np.where(at >= length // 3, at - length // 3, at).astype(np.int32),
    }


def _nar_batch(rows=4, length=24, seed=0):
    rng = np.random.default_rng(seed)
    at = np.broadcast_to(np.arange(length), (rows, length))
    segment_ids = np.where(at < 10, 1, np.where(at < 22, 2, 0)).astype(np.int32)
    stage = np.take_along_axis(rng.integers(2, 9, (rows, 3)), segment_ids, 1).astype(np.int32)
    place = np.where(at < 10, at, at - 10)
    is_frame = (place >= 3) & (segment_ids > 0)
    return {
        "phones": rng.integers(0, 5, (rows, length)).astype(np.int32),
        "is_frame": is_frame,
        "codes": rng.integers(0, 1024, (rows, length, 8)).astype(np.int32),
        "known": np.where(is_frame, np.where(place < 5, 8, stage - 1), 0).astype(np.int32),
        "stage": stage,
        "segment_ids": segment_ids,
        "positions": place.astype(np.int32),
        "loss_mask": is_frame & (place >= 5),
    }


@pytest.fixture(scope="module")
def run_gar(tiny_gar):
    return jax.jit(lambda batch: gar_sums(tiny_gar.model, batch, None))


@pytest.fixture(scope="module")
def run_nar(tiny_nar):
    return jax.jit(lambda batch: nar_sums(tiny_nar.model, batch, None))


def test_the_gars_sums_are_those_of_numpy(tiny_gar, run_gar):
    batch = _gar_batch(tiny_gar.vocabulary)
    sums = jax.device_get(run_gar(batch))
    logits = np.asarray(jax.jit(tiny_gar.model)(batch["inputs"], batch["segment_ids"], batch["positions"]))
    losses, mask = _numpy_cross_entropy(logits, batch["targets"]), batch["loss_mask"]
    codes = mask & (batch["targets"] < 1024)
    assert 0 < codes.sum() < mask.sum() < mask.size
    correct = logits.argmax(-1) == batch["targets"]
    assert sums["loss"] == pytest.approx(losses[mask].sum(), rel=1e-6)
    assert sums["tokens"] == mask.sum()
    assert sums["layer_loss"][0] == pytest.approx(losses[codes].sum(), rel=1e-6)
    assert sums["layer_correct"][0] == correct[codes].sum()
    assert sums["layer_codes"][0] == codes.sum()
    for name in ("layer_loss", "layer_correct", "layer_codes"):
        assert sums[name].shape == (8,)
        assert not sums[name][1:].any()


def test_a_right_guess_counts_as_correct(tiny_gar, run_gar):
    batch = _gar_batch(tiny_gar.vocabulary)
    logits = np.asarray(jax.jit(tiny_gar.model)(batch["inputs"], batch["segment_ids"], batch["positions"]))
    batch["targets"] = logits.argmax(-1).astype(np.int32)
    sums = jax.device_get(run_gar(batch))
    assert sums["layer_correct"][0] == sums["layer_codes"][0] > 0


def test_the_nars_sums_are_those_of_numpy_layer_by_layer(tiny_nar, run_nar):
    batch = _nar_batch()
    sums = jax.device_get(run_nar(batch))
    inputs = NarInputs(**{name: batch[name] for name in NarInputs.__dataclass_fields__})
    features = np.asarray(jax.jit(tiny_nar.model)(inputs), np.float64)
    embedding = np.asarray(tiny_nar.params["code_embedding"], np.float64)
    loss, correct, codes = np.zeros(8), np.zeros(8), np.zeros(8)
    for b, r in zip(*np.nonzero(batch["loss_mask"]), strict=True):
        layer = batch["stage"][b, r] - 1
        logits, target = embedding[layer] @ features[b, r], batch["codes"][b, r, layer]
        loss[layer] += _numpy_cross_entropy(logits, target)
        correct[layer] += logits.argmax() == target
        codes[layer] += 1
    assert np.count_nonzero(codes) >= 4
    np.testing.assert_allclose(sums["layer_loss"], loss, rtol=1e-6)
    np.testing.assert_array_equal(sums["layer_correct"], correct)
    np.testing.assert_array_equal(sums["layer_codes"], codes)
    assert sums["loss"] == pytest.approx(loss.sum(), rel=1e-6)
    assert sums["tokens"] == codes.sum() == batch["loss_mask"].sum()


@pytest.mark.parametrize("kind", ["gar", "nar"])
def test_sums_of_a_batch_are_the_sums_of_its_parts(kind, tiny_gar, run_gar, run_nar):
    batch, run = (_gar_batch(tiny_gar.vocabulary), run_gar) if kind == "gar" else (_nar_batch(), run_nar)
    whole = jax.device_get(run(batch))
    # Each part keeps the shape: rows of the others become padding.
    parts = []
    for rows in ([0, 2, 3], [1]):
        kept = np.isin(np.arange(4), rows)[:, None]
        parts.append(jax.device_get(run(batch | {n: batch[n] & kept for n in ("loss_mask",)})))
    assert parts[0]["tokens"] != parts[1]["tokens"] > 0
    for name, value in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], value, rtol=1e-6)
