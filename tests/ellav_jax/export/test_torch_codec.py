"""The codec in plain PyTorch against the JAX codec, whose own parity with the encodec package is tested elsewhere."""

import numpy as np
import pytest
import torch

from ellav_jax.codec import load_codec_weights
from ellav_jax.codec.config import CodecConfig
from ellav_jax.codec.weights import expected_shapes
from ellav_jax.export.torch_codec import Codec


@pytest.fixture(scope="module")
def codec():
    weights = load_codec_weights("bundled")
    made = Codec(weights.config.filters, weights.config.dimension, weights.config.codebook_size)
    made.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.arrays.items()})
    return made


@pytest.mark.parametrize("config", [CodecConfig(), CodecConfig(filters=16, dimension=64, codebook_size=512)])
def test_names_and_shapes_are_those_of_the_encodec_package(config):
    with torch.device("meta"):
        made = Codec(config.filters, config.dimension, config.codebook_size)
    assert {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()} == expected_shapes(config)


def test_speech_of_any_length_gives_the_same_codes_and_waveforms(codec, bundled_codec, small_corpus):
    from ellav_jax.resampling import resample

    speech = resample(*small_corpus.utterances[0].audio.read(), 24_000)
    # With fewer than 9 frames EnCodec's reflection at the beginning needs more than there is.
    clips = [speech[3000 : 3000 + length] for length in (1, 319, 321, 961, 2240, 2881, 16_000)]
    for clip, codes in zip(clips, bundled_codec.encode_batch(clips), strict=True):
        found = codec.encode(torch.from_numpy(clip)).numpy()
        assert (found == codes).mean() >= 0.999
        np.testing.assert_allclose(
            codec.decode(torch.from_numpy(codes).long()), bundled_codec.decode(codes), rtol=0, atol=1e-5
        )
    assert np.abs(bundled_codec.decode(codes)).max() > 0.05


def test_what_is_no_waveform_or_no_codes_is_refused(codec):
    for waveform in (torch.zeros(0), torch.zeros(2, 9), torch.zeros(9, dtype=torch.int32)):
        with pytest.raises(ValueError, match="expected mono floating-point samples"):
            codec.encode(waveform)
    for codes in (torch.zeros(3, 7, dtype=torch.long), torch.zeros(0, 8, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"expected codes \[T, 8\]"):
            codec.decode(codes)
