"""Sampling against NumPy's nucleus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.synthesis.sampling import SamplingConfig, sample

run = jax.jit(sample)


def _nucleus(logits, temperature, top_p):
    scaled = logits.astype(np.float64) / temperature
    probability = np.exp(scaled - scaled.max())
    probability /= probability.sum()
    order = np.argsort(-probability)
    count = int(np.searchsorted(np.cumsum(probability[order]), top_p)) + 1
    kept = np.zeros_like(probability)
    kept[order[:count]] = probability[order[:count]]
    return kept / kept.sum()


@pytest.mark.parametrize("temperature, top_p", [(1.0, 0.8), (0.5, 0.9), (2.0, 0.5), (1.0, 1.0)])
def test_draws_follow_the_nucleus(temperature, top_p):
    logits, draws = np.random.default_rng(0).normal(size=12).astype(np.float32) * 1.5, 4000
    keys = jax.random.split(jax.random.key(0), draws)
    tokens = run(np.tile(logits, (draws, 1)), keys, jnp.float32(temperature), jnp.float32(top_p))
    expected = _nucleus(logits, temperature, top_p)
    found = np.bincount(tokens, minlength=12) / draws
    assert not found[expected == 0].any()
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-9)


def test_a_tiny_nucleus_and_temperature_zero_are_greedy():
    logits = np.random.default_rng(1).normal(size=(50, 30)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 50)
    for temperature, top_p in ((0.0, 0.9), (1.0, 1e-6)):
        tokens = run(logits, keys, jnp.float32(temperature), jnp.float32(top_p))
        assert tokens.dtype == jnp.int32
        np.testing.assert_array_equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 100.0])
def test_what_is_masked_is_never_drawn(temperature):
    logits = np.full((500, 20), -np.inf, np.float32)
    logits[:, [3, 7]] = [-50.0, 50.0]
    tokens = run(logits, jax.random.split(jax.random.key(0), 500), jnp.float32(temperature), jnp.float32(1.0))
    assert set(np.unique(tokens)) <= {3, 7}


def test_a_row_is_drawn_by_its_own_key_whatever_stands_beside_it():
    logits = np.random.default_rng(2).normal(size=(4, 30)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    together = run(logits, keys, jnp.float32(1.0), jnp.float32(0.9))
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(run(logits[order], keys[order], jnp.float32(1.0), jnp.float32(0.9)), together[order])


@pytest.mark.parametrize("choices", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_values_outside_their_range_are_refused(choices):
    with pytest.raises(InputError, match=f"{next(iter(choices))} must be"):
        SamplingConfig(**choices)
