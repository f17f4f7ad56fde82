"""Exports of trained models against JAX: logits, greedy codes of whole utterances, alone and in ragged batches."""

import numpy as np
import pytest

from ellav_jax.codec import load_codec_weights
from ellav_jax.errors import RunError
from ellav_jax.export.folder import write_codec
from ellav_jax.export.safetensors_file import read_weights, write_weights
from ellav_jax.export.verify import TOLERANCE, check, random_utterances, verify
from ellav_jax.hybrid_sequence import LayoutConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

slow = pytest.mark.slow
GARS = [
    pytest.param("llama", LayoutConfig("compact", local_advance=2), id="llama-compact-advance"),
    pytest.param("paper", LayoutConfig("paper"), id="paper-paper", marks=slow),
    pytest.param("llama", LayoutConfig("paper", local_advance=2), id="llama-paper-advance", marks=slow),
    pytest.param("paper", LayoutConfig("compact"), id="paper-compact", marks=slow),
    pytest.param("paper", LayoutConfig("compact", global_advance=False), id="no-global-advance", marks=slow),
    pytest.param("llama", LayoutConfig("valle"), id="valle", marks=slow),
]


@pytest.mark.parametrize(("preset", "layout"), GARS)
def test_a_trained_gar_says_the_same_codes(trained, exported, clips, preset, layout):
    model = trained("gar", preset, layout)
    utterances = clips("test")[:3]
    assert len({len(one.codes_Tx8) for one in utterances}) == 3  # ragged
    found = verify(exported(model), [model], None, "float32", utterances)
    check(found)
    logits, *codes = found
    assert 0 < logits.largest <= TOLERANCE
    assert [one.what.split(",")[-1].strip().isdigit() for one in codes] == [True] * 4
    frames = [int(one.what.split(",")[-1]) for one in codes if "codes" in one.what]
    assert min(frames) >= sum(len(one.phones_P) for one in utterances)  # each phone has a frame at least


@pytest.mark.parametrize("preset", ["llama", pytest.param("paper", marks=slow)])
def test_a_trained_nar_fills_in_the_same_codes(trained, exported, clips, preset):
    model = trained("nar", preset)
    found = verify(exported(model), [model], None, "float32", clips("test")[:3])
    check(found)
    assert [one.largest > 0 for one in found] == [True] * 7 + [False] * 2


@slow
def test_the_codec_gives_the_same_waveforms_and_codes(exported, clips):
    weights = load_codec_weights("bundled")
    folder = exported()
    write_codec(folder / "codec", weights, "")
    decoded, encoded = verify(folder, [], weights, "float32", clips("test")[:2])
    check([decoded, encoded])
    assert 0 < decoded.largest <= 1e-5
    assert encoded.largest < 1e-3


@slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_fewer_bits_are_compared_with_rounded_weights(trained, exported, clips, dtype):
    models = [trained("gar", "llama"), trained("nar", "llama")]
    check(verify(exported(*models, dtype=dtype), models, None, dtype, clips("test")[:2]))


def test_a_weight_that_was_changed_is_found(trained, exported):
    model = trained("nar", "llama")
    folder = exported(model)
    state = read_weights(folder / "nar" / "model.safetensors")
    state["stage_embedding.weight"][5] += 0.1  # of layer 7 alone
    shapes = {name: array.shape for name, array in state.items()}
    write_weights(folder / "nar" / "model.safetensors", shapes, state.__getitem__, "float32")
    found = verify(folder, [model], None, "float32", random_utterances(len(model.frontend.phones), 2))
    assert [index for index, one in enumerate(found[:7], start=2) if one.problem] == [7]
    with pytest.raises(RunError, match=r"does not do what the checkpoint does: NAR logits of layer 7.* differ by .*"):
        check(found)


def test_random_utterances_are_utterances():
    for one in random_utterances(40):
        assert one.durations_P.sum() == len(one.codes_Tx8)
        assert one.durations_P.min() >= 1
        assert one.phones_P.max() < 40
        assert one.codes_Tx8.dtype == np.int32
