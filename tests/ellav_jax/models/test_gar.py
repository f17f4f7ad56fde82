"""The GAR: what goes in, what comes out, and its two ways of decoding."""

import jax
import numpy as np
import pytest

from ellav_jax.vocabulary import NUM_OUTPUTS

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _tokens(vocabulary, rows=2, length=12):
    return np.random.default_rng(0).integers(0, vocabulary.size, (rows, length)).astype(np.int32)


def test_logits_are_float32_over_codes_eop_and_eos(tiny_gar):
    tokens = _tokens(tiny_gar.vocabulary)
    logits = jax.eval_shape(tiny_gar.model, tokens, tokens, tokens)
    assert (logits.shape, logits.dtype) == ((2, 12, 1026), np.float32)
    assert NUM_OUTPUTS == 1026


def test_embeddings_have_unit_variance_at_first(tiny_gar):
    embedded = np.asarray(tiny_gar.model.embed(np.arange(tiny_gar.vocabulary.size)))
    assert abs(embedded.std() - 1) < 0.02


def test_prefill_and_steps_give_the_logits_of_the_whole(tiny_gar):
    model, tokens = tiny_gar.model, _tokens(tiny_gar.vocabulary)
    positions = np.broadcast_to(np.arange(12, dtype=np.int32), (2, 12))
    whole = np.asarray(jax.jit(lambda t: model(t, np.ones((2, 12), np.int32), positions))(tokens))
    lengths, rows = np.array([3, 7]), np.arange(2)
    logits, cache = jax.jit(lambda t, n: model.prefill(t, n, slots=12))(tokens[:, :7], lengths)
    np.testing.assert_allclose(logits, whole[rows, lengths - 1], rtol=0, atol=1e-5)
    step = jax.jit(lambda t, at, cache: model.step(model.transformer.layers(), t, at, cache))
    for at in (lengths, lengths + 1):
        logits, cache = step(tokens[rows, at], at, cache)
        np.testing.assert_allclose(logits, whole[rows, at], rtol=0, atol=1e-5)
