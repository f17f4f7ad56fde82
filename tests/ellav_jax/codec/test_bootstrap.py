"""Codebooks for fresh models."""

import numpy as np

from ellav_jax.codec.bootstrap import fill_codebooks
from ellav_jax.codec.weights import read_weights


def test_filled_codebooks_have_200_codes_in_use_in_each_layer(full_size_codec, speech):
    codes = np.concatenate(full_size_codec.encode_batch(speech))
    used = [len(np.unique(codes[:, layer])) for layer in range(8)]
    assert min(used) >= 200, used


def test_filling_replaces_the_codebooks_alone_and_is_a_function_of_the_seed(speech):
    bundled = read_weights("bundled")
    first, again = (fill_codebooks(bundled, speech[:2], seed=3) for _ in range(2))
    assert first.sha256 == again.sha256 != bundled.sha256
    changed = {name for name, array in bundled.arrays.items() if not np.array_equal(first.arrays[name], array)}
    assert changed == {f"quantizer.vq.layers.{layer}._codebook.embed" for layer in range(8)}
