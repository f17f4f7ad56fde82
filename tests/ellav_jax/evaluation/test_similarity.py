import importlib.util

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.evaluation.metric import Heard
from ellav_jax.evaluation.similarity import SpeakerSimilarity, cosine, open_speaker_encoder


def heard(spoken_S, prompt_S, given=0):
    wave_S = np.concatenate([np.ones(given, np.float32), spoken_S]).astype(np.float32)
    return Heard("", (), wave_S, 16000, given, prompt_S.astype(np.float32), True)


def test_what_stands_behind_the_prompt_is_compared_with_the_prompt():
    metric = SpeakerSimilarity("mean", lambda wave_S: np.array([wave_S.mean(), 1.0]))
    spoken_S, prompt_S = np.full(4000, 0.5), np.full(3000, -0.25)
    expected = (0.5 * -0.25 + 1) / np.sqrt((0.25 + 1) * (0.0625 + 1))
    assert metric.measure(heard(spoken_S, prompt_S, given=5000)) == {"similarity": pytest.approx(expected)}


@pytest.mark.parametrize("spoken, prompt", [(100, 3000), (3000, 0)])
def test_what_is_too_short_has_no_voice(spoken, prompt):
    metric = SpeakerSimilarity("never asked", lambda wave_S: 1 / 0)
    assert metric.measure(heard(np.ones(spoken), np.ones(prompt))) == {"similarity": None}
    assert metric.measure(heard(np.zeros(3000), np.ones(3000))) == {"similarity": None}


def test_the_cosine_of_nothing_is_0():
    assert cosine(np.zeros(3), np.ones(3)) == 0
    assert cosine(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx(1)


def test_a_missing_model_is_told(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="neither resemblyzer nor a WavLM speaker verification model"):
        open_speaker_encoder(str(tmp_path))


def test_a_wavlm_folder_is_an_encoder(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.WavLMConfig(
        **sizes, conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(10, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, tdnn_dim=(16, 16), tdnn_kernel=(5, 3),
        tdnn_dilation=(1, 2), xvector_output_dim=12,
    )  # fmt: skip
    transformers.WavLMForXVector(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(tmp_path)
    encode = open_speaker_encoder(str(tmp_path))
    wave_S = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    assert encode(wave_S).shape == (12,)
    np.testing.assert_array_equal(encode(wave_S), encode(wave_S))


@pytest.mark.slow
def test_resemblyzer_tells_a_voice_from_a_sweep(small_corpus):
    if not all(map(importlib.util.find_spec, ("resemblyzer", "torch", "librosa"))):
        pytest.skip("resemblyzer, torch or librosa is not installed")
    encode = open_speaker_encoder("resemblyzer")
    from ellav_jax.resampling import resample

    voices = [resample(*one.audio.read(), 16000) for one in small_corpus.utterances if one.split == "test"][:3]
    tone = np.sin(np.cumsum(np.linspace(0.05, 0.8, 32000))).astype(np.float32)
    same = [cosine(encode(voices[0]), encode(voice)) for voice in voices[1:]]
    assert min(same) > cosine(encode(voices[0]), encode(tone)) + 0.1
