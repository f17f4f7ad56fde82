"""Sampling against NumPy's nucleus, and the likeliest k."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.synthesis.sampling import SamplingConfig, sample

_sample = jax.jit(sample)


def run(logits, keys, temperature, top_p=1.0, recent=None, **more):
    recent = np.full((len(logits), 4), -1) if recent is None else recent
    return _sample(logits, keys, recent, SamplingConfig(temperature, top_p, **more).settings())


def _nucleus(logits, temperature, top_p, top_k=0):
    scaled = logits.astype(np.float64) / temperature
    probability = np.exp(scaled - scaled.max())
    if top_k:
        probability[np.argsort(-probability)[top_k:]] = 0
    probability /= probability.sum()
    order = np.argsort(-probability)
    count = int(np.searchsorted(np.cumsum(probability[order]), top_p)) + 1
    kept = np.zeros_like(probability)
    kept[order[:count]] = probability[order[:count]]
    return kept / kept.sum()


@pytest.mark.parametrize(
    "temperature, top_p, top_k",
    [(1.0, 0.8, 0), (0.5, 0.9, 0), (2.0, 0.5, 0), (1.0, 1.0, 0), (1.0, 1.0, 3), (1.0, 0.8, 4), (2.0, 0.9, 20)],
)
def test_draws_follow_the_nucleus_of_the_likeliest(temperature, top_p, top_k):
    logits, draws = np.random.default_rng(0).normal(size=12).astype(np.float32) * 1.5, 4000
    keys = jax.random.split(jax.random.key(0), draws)
    tokens = run(np.tile(logits, (draws, 1)), keys, temperature, top_p, top_k=top_k)
    expected = _nucleus(logits, temperature, top_p, top_k)
    found = np.bincount(tokens, minlength=12) / draws
    assert not found[expected == 0].any()
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-9)


def test_a_tiny_nucleus_and_temperature_zero_are_greedy():
    logits = np.random.default_rng(1).normal(size=(50, 30)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 50)
    for temperature, top_p in ((0.0, 0.9), (1.0, 1e-6)):
        tokens = run(logits, keys, temperature, top_p)
        assert tokens.dtype == jnp.int32
        np.testing.assert_array_equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 100.0])
def test_what_is_masked_is_never_drawn(temperature):
    logits = np.full((500, 20), -np.inf, np.float32)
    logits[:, [3, 7]] = [-50.0, 50.0]
    tokens = run(logits, jax.random.split(jax.random.key(0), 500), temperature)
    assert set(np.unique(tokens)) <= {3, 7}


def test_a_row_is_drawn_by_its_own_key_whatever_stands_beside_it():
    logits = np.random.default_rng(2).normal(size=(4, 30)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    together = run(logits, keys, 1.0, 0.9)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(run(logits[order], keys[order], 1.0, 0.9), together[order])


def test_a_token_that_repeats_itself_is_drawn_anew_from_all():
    logits = np.log(np.array([0.9, 0.06, 0.04], np.float32))
    draws = 4000
    keys = jax.random.split(jax.random.key(3), draws)

    def shares(*recent, window=4, share=0.3):
        recent = np.tile(np.array(recent), (draws, 1))
        tokens = run(
            np.tile(logits, (draws, 1)), keys, 1.0, 0.5, recent, repetition_window=window, repetition_share=share
        )
        return np.bincount(tokens, minlength=3) / draws

    # The nucleus is token 0 alone. One of the last four is not above 0.3 of them, two are.
    np.testing.assert_array_equal(shares(0, 1, 2, 1), [1, 0, 0])
    np.testing.assert_array_equal(shares(-1, -1, -1, 0), [1, 0, 0])
    np.testing.assert_allclose(shares(0, 1, 0, 2), [0.9, 0.06, 0.04], atol=0.02)
    # Of a window of two, what lies behind is not looked at.
    np.testing.assert_array_equal(shares(1, 2, 0, 0, window=2), [1, 0, 0])
    np.testing.assert_array_equal(shares(0, 0, 0, 0, window=0), [1, 0, 0])


WRONG = [
    {"temperature": -0.1},
    {"temperature": float("nan")},
    {"top_p": 0.0},
    {"top_p": 1.1},
    {"top_k": -1},
    {"repetition_window": 65},
    {"repetition_share": 1.0},
]


@pytest.mark.parametrize("choices", WRONG)
def test_values_outside_their_range_are_refused(choices):
    with pytest.raises(InputError, match=f"{next(iter(choices))} must be"):
        SamplingConfig(**choices)
