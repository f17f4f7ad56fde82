"""Dropout masks: their share, their independence, and what they are functions of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.models.dropout import drop, mix, position_keys

SHAPE = (4, 64, 128)


def _kept(seed=0, rate=0.25, place=0):
    utterances = np.repeat(np.random.default_rng(seed).integers(0, 1 << 32, (SHAPE[0], 1), np.uint32), SHAPE[1], 1)
    positions = np.broadcast_to(np.arange(SHAPE[1], dtype=np.int32), SHAPE[:2])
    x = jax.jit(drop, static_argnums=1)(jnp.ones(SHAPE), rate, position_keys(utterances, positions), place)
    return np.asarray(x)


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.9])
def test_a_share_is_zeroed_and_the_rest_scaled_to_keep_the_mean(rate):
    x = _kept(rate=rate)
    assert set(np.unique(x)) == {0.0, np.float32(1 / (1 - rate))}
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(np.mean(x == 0) - rate) < 4 * deviation


def test_masks_of_places_seeds_positions_and_channels_are_independent():
    """Two independent masks agree in 0.25² + 0.75² of their places; so do the shifted copies of one."""
    mask = _kept() > 0
    others = [_kept(place=1) > 0, _kept(seed=1) > 0]
    others += [np.roll(mask, shift, axis) for axis in (0, 1, 2) for shift in (1, 2, 3)]
    expected, deviation = 0.625, np.sqrt(0.625 * 0.375 / mask.size)
    for other in others:
        assert abs(np.mean(mask == other) - expected) < 5 * deviation
    for axis in (0, 1, 2):  # no channel or position is dropped more often than others
        rest = tuple(i for i in range(3) if i != axis)
        share = mask.mean(rest)
        assert np.abs(share - 0.75).max() < 5 * np.sqrt(0.75 * 0.25 / (mask.size / len(share)))


def test_the_hash_is_a_bijection_in_which_every_bit_changes_half_of_all_bits():
    x = np.arange(1 << 16, dtype=np.uint32)
    assert len(np.unique(np.asarray(mix(jnp.asarray(x))))) == len(x)
    x = np.random.default_rng(0).integers(0, 1 << 32, 4096, np.uint32)
    for bit in range(32):
        changed = np.bitwise_count(np.asarray(mix(jnp.asarray(x)) ^ mix(jnp.asarray(x ^ np.uint32(1 << bit)))))
        assert abs(changed.mean() - 16) < 0.5
