"""Codes and waveforms against the encodec package and transformers, on real speech."""

import numpy as np
import pytest

from ellav_jax.codec.weights import read_weights


@pytest.fixture(scope="module", params=["bundled", "full size"])
def ours_and_weights(request, bundled_codec):
    if request.param == "bundled":
        return bundled_codec, read_weights("bundled"), request.getfixturevalue("bundled_package")
    names = ("full_size_codec", "full_size_weights", "full_size_package")
    return tuple(request.getfixturevalue(name) for name in names)


def equal_share(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return float(np.mean(np.concatenate(ours) == np.concatenate(theirs)))


def largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return float(np.abs(np.concatenate(ours) - np.concatenate(theirs)).max())


def test_codes_and_waveform_equal_those_of_both_packages(ours_and_weights, transformers_codec, speech):
    codec, weights, package = ours_and_weights
    transformers = transformers_codec(weights)
    codes = codec.encode_batch(speech)
    waves = codec.decode_batch(codes)
    assert [one.shape for one in codes] == [(-(-len(wave) // 320), 8) for wave in speech]
    assert [one.shape for one in waves] == [(len(one) * 320,) for one in codes]

    package_codes, package_waves = package.encode_batch(speech), package.decode_batch(codes)
    assert equal_share(codes, package_codes) >= 0.999
    assert largest_difference(waves, package_waves) <= 1e-4

    transformers_codes = [transformers.encode(wave) for wave in speech]
    transformers_waves = [transformers.decode(one) for one in codes]
    assert equal_share(codes, transformers_codes) >= 0.999
    assert largest_difference(waves, transformers_waves) <= 1e-4
    # Not a comparison of silences.
    assert np.concatenate(package_waves).std() > 0.01
    assert all(len(np.unique(np.concatenate(codes)[:, layer])) >= 200 for layer in range(8))


def test_very_short_clips_equal_those_of_the_package(bundled_codec, bundled_package, speech):
    # EnCodec reflects about the first step; with fewer than 9 frames it puts zeros where there is no signal.
    lengths = [1, 2, 319, 320, 321, 640, 641, 960, 1601, 1920, 2240, 2241, 2560, 2881]
    clips = [speech[0][3000 : 3000 + length] for length in lengths]
    for length, codes, wanted in zip(
        lengths, bundled_codec.encode_batch(clips), bundled_package.encode_batch(clips), strict=True
    ):
        np.testing.assert_array_equal(codes, wanted, err_msg=f"{length} samples")
        wave = bundled_codec.decode(codes)
        np.testing.assert_allclose(wave, bundled_package.decode(codes), atol=1e-5, err_msg=f"{length} samples")


def test_the_bundled_codec_gives_speech_back(bundled_codec, speech):
    waves = bundled_codec.decode_batch(bundled_codec.encode_batch(speech))
    error = sum(np.square(new[: len(old)] - old).sum() for new, old in zip(waves, speech, strict=True))
    energy = sum(np.square(old).sum() for old in speech)
    assert error / energy < 0.15  # its README measures 0.053 on the test clips
