"""Choosing tokens, limits, and the independence of rows in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ellav_jax.export.torch_decoding import Limits, Sampling, choose, decode_rows, fill_layers
from ellav_jax.export.torch_modules import Gar, Nar, TransformerConfig
from ellav_jax.export.torch_sequence import Layout, Utterance, make_row
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.sampling import SamplingConfig, sample
from ellav_jax.synthesis.shapes import gar_shape

_sample = jax.jit(sample)
SMALL = TransformerConfig(num_layers=2, num_heads=2, width=16, ff_width=32, dropout=0.0)


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.5}, {"top_k": 5, "top_p": 1.0}, {"top_k": 6, "top_p": 0.6}, {"top_p": 0.3}],
    ids=str,
)
def test_draws_are_distributed_as_those_of_jax(options):
    logits = np.random.default_rng(0).normal(0, 2, 12).astype(np.float32)
    logits[3] = -np.inf
    count = 4000
    generators = [torch.Generator().manual_seed(0)] * count
    found = choose(torch.from_numpy(logits).expand(count, -1), Sampling(**options), generators).numpy()
    keys = jax.random.split(jax.random.key(0), count)
    many = jnp.broadcast_to(logits, (count, 12))
    expected = np.asarray(_sample(many, keys, jnp.full((count, 1), -1), SamplingConfig(**options).settings()))
    shares = [np.bincount(drawn, minlength=12) / count for drawn in (found, expected)]
    np.testing.assert_array_equal(shares[0] > 0, shares[1] > 0)
    np.testing.assert_allclose(shares[0], shares[1], atol=0.04)


def test_greedy_is_the_likeliest():
    logits = torch.randn(5, 30)
    assert choose(logits, Sampling(temperature=0), []).equal(logits.argmax(-1))


@pytest.mark.parametrize(
    "bad", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"temperature": np.nan}]
)
def test_senseless_sampling_is_refused(bad):
    with pytest.raises(ValueError, match="expected temperature"):
        Sampling(**bad)


def test_caps_and_cut_offs_are_those_of_synthesis():
    for limits in ({}, {"max_phone_seconds": None}, {"min_frames": 40}, {"max_silence_seconds": 0.1}):
        for phone in ("SIL", "AA"):
            assert Limits(**limits).cap(phone) == PhoneLimits(**limits).cap(phone, 75)
    for phones, least in ((1, 1), (32, 32), (33, 500), (200, 3000), (2048, 2048)):
        assert Limits().most_frames(phones, least) == gar_shape(9, phones, least, 75, True, None).frames
    assert Limits(max_seconds=2).most_frames(10, 10) == 150
    with pytest.raises(ValueError, match="split the text"):
        Limits(max_seconds=2).most_frames(10, 150)


@pytest.fixture(scope="module")
def gar():
    torch.manual_seed(0)
    return Gar(SMALL, num_phones=5).eval()


def _prompts(count):
    rng = np.random.default_rng(4)
    made = []
    for _ in range(count):
        durations = rng.integers(1, 6, rng.integers(3, 7)).tolist()
        codes = torch.from_numpy(rng.integers(0, 1024, (sum(durations), 8)))
        made.append(Utterance(rng.integers(0, 5, len(durations)).tolist(), durations, codes))
    return made


@pytest.mark.parametrize("order", ["compact", "paper", "valle"])
def test_what_a_row_says_does_not_depend_on_its_neighbours(gar, order):
    layout, sentences = Layout(order), ([1, 2], [3, 4, 0, 1, 2, 3], [2])
    # The first phone of the second sentence lasts longer than what a cache grows by.
    floors = [[2, 2], [280, 2, 2, 2, 2, 2], [2]]
    rows = [
        make_row(prompt, phones, least, [least[0] + 30] * len(phones), 400, layout)
        for prompt, phones, least in zip(_prompts(3), sentences, floors, strict=True)
    ]
    sampling = Sampling(seed=5)
    together = decode_rows(gar, rows, layout.eop_input, sampling)
    assert [decode_rows(gar, [row], layout.eop_input, sampling)[0] for row in rows] == together
    assert len({len(one.codes) for one in together}) == 3
    for one, row in zip(together, rows, strict=True):
        assert sum(one.durations) == len(one.codes)
        assert one.finished or len(one.codes) == 400
        if one.finished:
            assert np.all((np.array(row.floors) <= one.durations) & (one.durations <= np.array(row.caps)))


def test_the_nar_fills_ragged_rows_as_it_fills_each_alone():
    torch.manual_seed(1)
    nar = Nar(SMALL, num_phones=5).eval()
    utterances = _prompts(3)
    together = fill_layers(nar, utterances, [2, 0, 1])
    for one, given, filled in zip(utterances, (2, 0, 1), together, strict=True):
        assert fill_layers(nar, [one], [given])[0].equal(filled)
        assert filled[:given].equal(one.codes[:given])
        assert filled[:, 0].equal(one.codes[:, 0])
        assert not filled[given:, 1:].equal(one.codes[given:, 1:])
