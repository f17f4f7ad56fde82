"""Loading, saving and speaking in PyTorch with models that were trained."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from ellav_jax.codec import load_codec_weights
from ellav_jax.export.convert import to_torch
from ellav_jax.export.folder import write_codec
from ellav_jax.export.verify import load_modeling
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import Nar
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import Synthesizer
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _utterance(modeling, one):
    return modeling.Utterance(one.phones_P.tolist(), one.durations_P.tolist(), torch.from_numpy(one.codes_Tx8))


def test_saving_what_was_loaded_changes_no_bit(trained, exported, tmp_path):
    model = trained("gar", "llama")
    folder = exported(model)
    modeling = load_modeling(folder)
    modeling.save(modeling.load_gar(folder / "gar"), tmp_path / "saved")
    state = safetensors.torch.load_file(tmp_path / "saved" / "model.safetensors")
    for name, array in to_torch(model.params).items():
        np.testing.assert_array_equal(state[name], array)
    for name in ("config.json", "frontend.json", "modeling_ellav.py"):
        assert (tmp_path / "saved" / name).read_text() == (folder / "gar" / name).read_text()
    halves = modeling.load_gar(folder / "gar", dtype=torch.bfloat16)
    modeling.save(halves, tmp_path / "halves")
    for name, tensor in safetensors.torch.load_file(tmp_path / "halves" / "model.safetensors").items():
        assert torch.equal(tensor, halves.state_dict()[name])
    with pytest.raises(ValueError, match="is there already"):
        modeling.save(modeling.load_gar(folder / "gar"), tmp_path / "saved")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_fewer_bits_say_nearly_the_same(trained, exported, clips, dtype):
    models = [trained("gar", "llama"), trained("nar", "llama")]
    folder = exported(*models, dtype=dtype)
    modeling = load_modeling(folder)
    speaker, exact = modeling.load(folder), modeling.load(folder, dtype=torch.float32)
    assert speaker.codec is None
    assert speaker.gar.head.weight.dtype == getattr(torch, dtype)
    utterances = [_utterance(modeling, one) for one in clips("test")[:2]]
    with torch.inference_mode():
        tokens = speaker.gar.batch(utterances).tokens
        logits, expected = speaker.gar(tokens), exact.gar(tokens)
        batch = speaker.nar.batch(utterances, [5, 0], [3, 3])
        losses = [float(nar.loss(batch)) for nar in (speaker.nar, exact.nar)]
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() < 0.05 * expected.abs().max()
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    [speech] = speaker.speak(utterances[:1], [["AA", "B"]], modeling.Sampling(seed=1))
    assert speech.phones == ("AA", "B")
    assert speech.waveform is None
    assert len(speech.codes) == sum(speech.durations)


def test_all_that_does_not_fit_is_named(trained, exported):
    folder = exported(trained("gar", "llama"))
    modeling = load_modeling(folder)
    path = folder / "gar" / "model.safetensors"
    state = safetensors.torch.load_file(path)
    del state["transformer.norm.weight"]
    state["lm_head.weight"] = torch.zeros(2)
    state["head.weight"] = state["head.weight"][:-1].clone()
    safetensors.torch.save_file(state, path)
    with pytest.raises(ValueError, match=r"does not fit its config\.json") as error:
        modeling.load_gar(folder / "gar")
    assert str(error.value).split("config.json: ")[1] == (
        "transformer.norm.weight is missing; lm_head.weight is left over; head.weight is [1025, 32], expected [1026, 32]"
    )
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        modeling.load(folder)
    with pytest.raises(ValueError, match="holds none of the folders gar, nar, codec"):
        modeling.load(folder / "gar")
    with pytest.raises(ValueError, match=r"not the description of a nar that ellav export wrote"):
        modeling.load_nar(folder / "gar")
    config = json.loads((folder / "gar" / "config.json").read_text())
    (folder / "gar" / "config.json").write_text(json.dumps(config | {"layout": {"orders": 3}}))
    with pytest.raises(ValueError, match=r"a field is missing, unknown or of another kind \(.*orders"):
        modeling.load_gar(folder / "gar")
    (folder / "gar" / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    with pytest.raises(ValueError, match=r"not the description of a gar .*, in format 1"):
        modeling.load_gar(folder / "gar")


def test_bad_requests_are_told_of(trained, exported, clips):
    folder = exported(trained("gar", "llama"))
    modeling = load_modeling(folder)
    speaker = modeling.load(folder)
    prompt = _utterance(modeling, clips("test")[0])
    for arguments, message in (
        (([prompt], [[]]), "sentence 0: expected phones"),
        (([prompt], [[1, 40]]), "of ids 0 … 39"),
        (([prompt], [[1]], modeling.Sampling(), modeling.Limits(), [[3]], [[2]]), "1 ≤ floor ≤ cap"),
        (([prompt], [[1]], modeling.Sampling(), modeling.Limits(), [[1, 1]], None), "a floor and a cap for each of 1"),
    ):
        with pytest.raises(ValueError, match=message):
            speaker.gar.generate(*arguments)
    with pytest.raises(ValueError, match="no phone 'XX' in the inventory"):
        speaker.gar.ids(["AA", "XX"])
    with pytest.raises(ValueError, match="holds no nar; export it with ellav export --nar"):
        speaker.speak([prompt], [["AA"]])


def test_floors_and_caps_are_kept(trained, exported, clips):
    folder = exported(trained("gar", "llama"))
    modeling = load_modeling(folder)
    prompt = _utterance(modeling, clips("test")[0])
    [first] = modeling.load_gar(folder / "gar").generate([prompt], [[5, 6, 7]], floors=[[7, 3, 2]], caps=[[7, 3, 4]])
    assert first.finished
    assert first.durations[: len(prompt.phones)] == list(prompt.durations)
    assert first.durations[-3:-1] == [7, 3]
    assert 2 <= first.durations[-1] <= 4
    assert len(first.codes) == sum(first.durations[-3:])


@pytest.mark.slow
def test_waveforms_are_those_of_synthesis(trained, exported, clips, bundled_codec):
    gar, nar = trained("gar", "llama"), trained("nar", "llama")
    folder, phones = exported(gar, nar), len(gar.frontend.phones)
    write_codec(folder / "codec", load_codec_weights("bundled"), "")
    modeling = load_modeling(folder)
    gar_definition = ModelDefinition.of(lambda key: Gar(gar.config, Vocabulary(phones), key))
    nar_definition = ModelDefinition.of(lambda key: Nar(nar.config, phones, key))
    synthesizer = Synthesizer(
        TrainedModel(gar_definition, gar.params),
        TrainedModel(nar_definition, nar.params),
        gar.layout,
        gar.frontend,
        bundled_codec,
        PhoneLimits(max_phone_seconds=0.1),
    )
    prompt = clips("test")[1]
    # The prompt is made to end in silence, so that the silence which begins the sentence is dropped.
    prompt.phones_P[-1] = 0
    sentence = ["SIL", "HH", "AH", "L", "OW", "SIL"]
    expected = synthesizer.speak_phones(prompt, sentence, SamplingConfig(temperature=0.0))
    [found] = modeling.load(folder).speak(
        [_utterance(modeling, prompt)],
        [sentence],
        modeling.Sampling(temperature=0),
        modeling.Limits(max_phone_seconds=0.1),
    )
    assert found.phones == tuple(expected.phones) == tuple(sentence[1:])
    assert found.finished == expected.finished
    np.testing.assert_array_equal(found.codes, expected.codes_Tx8)
    np.testing.assert_array_equal(found.durations, expected.durations_N)
    np.testing.assert_allclose(found.waveform, expected.waveform_S, rtol=0, atol=1e-4)
    assert np.abs(expected.waveform_S).max() > 0.01
