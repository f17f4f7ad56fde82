"""A clip's codes and waveform depend on the clip alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ellav_jax.codec.chunks import ChunkedRunner
from ellav_jax.codec.codec import Codec
from ellav_jax.codec.weights import read_weights
from ellav_jax.errors import InputError


def test_codes_do_not_depend_on_batch_neighbours_or_order(bundled_codec, speech):
    alone = [bundled_codec.encode(wave) for wave in speech]
    loud = [np.float32(3) * np.sin(np.arange(50_000, dtype=np.float32))] * 3
    together = bundled_codec.encode_batch([*loud, *speech[::-1]])[3:][::-1]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_waveforms_do_not_depend_on_batch_neighbours(bundled_codec, speech):
    codes = bundled_codec.encode_batch(speech)
    alone = [bundled_codec.decode(one) for one in codes]
    noise = np.random.default_rng(0).integers(0, 1024, (100, 8))
    for one, other in zip(alone, bundled_codec.decode_batch([noise, *codes, noise])[1:-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_chunks_of_another_size_give_the_same(bundled_codec, speech):
    other = Codec(read_weights("bundled"), lanes=2, chunk=45)
    clips = [speech[0], speech[1][:1000], speech[2]]
    codes = bundled_codec.encode_batch(clips)
    for one, two in zip(codes, other.encode_batch(clips), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(bundled_codec.decode_batch(codes), other.decode_batch(codes), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_codes_see_no_future(bundled_codec, speech):
    wave = speech[0]
    cut = bundled_codec.encode(wave[: 40 * 320])
    np.testing.assert_array_equal(cut, bundled_codec.encode(wave)[:40])


def test_trailing_zeros_of_the_last_frame_count_as_part_of_the_clip(bundled_codec, speech):
    wave = speech[0][: 10 * 320 - 100]
    np.testing.assert_array_equal(bundled_codec.encode(wave), bundled_codec.encode(np.pad(wave, (0, 100))))


def test_lists_of_all_lengths_share_one_compilation(bundled_codec, speech):
    bundled_codec.encode(speech[0])
    size = bundled_codec._encoder.run_chunk._cache_size()
    bundled_codec.encode_batch([speech[0][:n] for n in (5, 5000, 9000, 20_000)])
    assert bundled_codec._encoder.run_chunk._cache_size() == size == 1


def test_a_long_recording_is_encoded_in_pieces_of_bounded_size(bundled_codec, speech):
    minute = np.resize(np.concatenate(speech), 60 * 24_000)
    assert bundled_codec.encode(minute).shape == (4500, 8)


def test_an_empty_list_gives_an_empty_list(bundled_codec):
    assert bundled_codec.encode_batch([]) == []
    assert bundled_codec.decode_batch([]) == []


class RunningSum(nnx.Module):
    """Adds up its input along each clip; a chunk's first value restarts the sum."""

    def initial_state(self, lanes):
        return jnp.zeros(lanes)

    def __call__(self, x, state, lanes):
        y = jnp.cumsum(x, axis=1) + jnp.where(lanes.first, 0, state)[:, None]
        return y, y[:, -1]


def test_state_passes_from_chunk_to_chunk_and_stops_at_the_end_of_a_clip():
    runner = ChunkedRunner(RunningSum(), lanes=3, chunk=8)
    clips = [np.arange(n, dtype=np.float32) for n in (1, 30, 8, 17, 9, 2, 64)]
    for clip, summed in zip(clips, runner(clips, [len(clip) for clip in clips]), strict=True):
        np.testing.assert_array_equal(summed, np.cumsum(clip))


def test_chunks_too_short_for_the_reflection_are_refused():
    with pytest.raises(InputError, match="7 frames"):
        Codec(read_weights("bundled"), lanes=1, chunk=6)
