"""Whole runs of a few steps on real speech."""

import numpy as np
import pytest
import torch

from ellav_jax.codec import load_codec
from ellav_jax.codec.training import network
from ellav_jax.codec.training.config import AdversaryConfig, DiscriminatorConfig, QuantizerConfig, SegmentConfig
from ellav_jax.codec.training.quantizer import TrainedCodebooks
from ellav_jax.codec.training.state import read_state
from ellav_jax.codec.weights import codebook_name
from ellav_jax.errors import InputError, RunError


def never() -> bool:
    return False


def test_distance_falls_on_a_real_clip(small_run, tmp_path):
    # One segment again and again: the batch of step 0.
    told = []
    trainer = small_run(tmp_path, told, learning_rate=1e-3, average=0.5, segments=SegmentConfig(seconds=0.4, batch=1))
    trainer._segments.batch = lambda step, batch=trainer._segments.batch: batch(0)
    trainer.run(15, never)
    distances = [line["mel_8"] for line in told if "mel_8" in line]
    assert np.mean(distances[-3:]) < 0.9 * np.mean(distances[:2])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_run_in_two_parts_ends_in_the_same_bits(small_run, tmp_path, bfloat16):
    fields = {"adversary_from": 2, "bfloat16": bfloat16}  # with the discriminator, on both sides of the interruption
    small_run(tmp_path / "whole", [], **fields).run(5, never)
    small_run(tmp_path / "parts", [], **fields).run(3, never)
    small_run(tmp_path / "parts", [], **fields).run(5, never)
    whole, parts = (read_state(tmp_path / name / "state.pt") for name in ("whole", "parts"))
    assert whole.step == parts.step == 5
    for field in ("parameters", "quantizer", "average"):
        ours, theirs = getattr(whole, field), getattr(parts, field)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours), field
    theirs = parts.adversary["parameters"]
    assert all(array.equal(theirs[name]) for name, array in whole.adversary["parameters"].items())
    assert whole.norms == parts.norms
    weights = [(tmp_path / name / "codec.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_computing_in_bfloat16_trains_as_float32_does(small_run, tmp_path):
    told = [small_run(tmp_path / str(half), [], bfloat16=half).train_step() for half in (False, True)]
    # A frame between two vectors may take the other one: the gradient, of few frames, shows it most.
    for name, rounding in (("waveform", 0.02), ("commitment", 0.05), ("gradient", 0.5)):
        assert told[0][name] == pytest.approx(told[1][name], rel=rounding)
        assert told[0][name] != told[1][name]


def test_the_adversary_joins_at_its_step(small_run, tmp_path):
    told = []
    small_run(tmp_path, told, adversary_from=2).run(4, never)
    assert ["adversarial" in line for line in told if "gradient" in line] == [False, False, True, True]
    assert read_state(tmp_path / "state.pt").adversary is not None
    other = AdversaryConfig(discriminator=DiscriminatorConfig(windows=(2048, 256), filters=8))
    with pytest.raises(InputError, match="a discriminator of another size"):
        small_run(tmp_path, told, adversary_from=2, adversary=other)


def test_the_export_is_what_the_codec_computes(small_run, tmp_path, speech):
    trainer = small_run(tmp_path, [], average=0.5)
    trainer.run(3, never)
    codec = load_codec(str(tmp_path / "codec.safetensors"))
    wave_S = speech[0][: 320 * 40]
    rounded = {name: array.half().float() for name, array in trainer.average.items()}
    assert any(not array.equal(trainer.average[name]) for name, array in rounded.items())
    z_1xDxT = network.encode(rounded, torch.from_numpy(wave_S)[None, None])
    latents = TrainedCodebooks(QuantizerConfig(), rounded, 1)(z_1xDxT, 8).latents_BxDxT
    codes_Tx8 = codec.encode(wave_S)
    vectors_TxD = sum(rounded[codebook_name(n)].numpy()[codes_Tx8[:, n]] for n in range(8))
    same_T = np.isclose(vectors_TxD, latents[0].T.numpy(), atol=1e-3).all(axis=1)
    assert same_T.mean() > 0.95  # a tie within rounding may go either way
    decoded_S = network.decode(rounded, torch.from_numpy(vectors_TxD).T[None])[0, 0].numpy()
    np.testing.assert_allclose(codec.decode(codes_Tx8), decoded_S, atol=1e-4)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(small_run, tmp_path):
    trainer = small_run(tmp_path, [])
    trainer.run(1, never)
    before = (tmp_path / "state.pt").read_bytes()
    trainer._parameters["decoder.model.15.conv.conv.bias"].data.fill_(torch.nan)
    with pytest.raises(RunError, match=r"step 2: .*mel_.* is no number"):
        trainer.run(3, never)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_another_file_in_the_states_place_is_refused(small_run, tmp_path):
    torch.save({"state": {}}, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt: not the state of a codec's training"):
        small_run(tmp_path, [])
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"state\.pt: not the state of a codec's training"):
        small_run(tmp_path, [])


def test_a_codec_of_the_official_size_trains_as_well(small_run, tmp_path, full_size_weights):
    trainer = small_run(tmp_path, [], start=full_size_weights)
    told = trainer.train_step()
    assert np.isfinite(list(told.values())).all()
    name = "encoder.model.0.conv.conv.weight_v"
    assert tuple(trainer.average[name].shape) == (32, 1, 7)
    assert not np.array_equal(trainer.average[name].numpy(), full_size_weights.arrays[name])
