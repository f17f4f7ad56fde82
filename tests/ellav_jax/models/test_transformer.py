"""The transformer on packed rows, with its cache, and what must not depend on depth, remat or neighbours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.transformer import Transformer, TransformerConfig, rotate, sinusoids

pytestmark = pytest.mark.usefixtures("quick_compilation")

both_presets = pytest.mark.parametrize("preset", ["paper", "llama"])
apply = jax.jit(lambda model, *arguments: model(*arguments))


@pytest.fixture(scope="module")
def make(tiny):
    """`make("paper", causal=True, dropout=0.1)`: the same parameters at each call."""

    @functools.cache
    def make(preset="llama", causal=True, **changes):
        return jax.jit(lambda key: Transformer(tiny(preset, **changes), causal=causal, key=key))(jax.random.key(0))

    return make


def _row(lengths, row_length):
    segment_ids, positions = np.zeros(row_length, np.int32), np.zeros(row_length, np.int32)
    start = 0
    for index, length in enumerate(lengths, start=1):
        segment_ids[start : start + length] = index
        positions[start : start + length] = np.arange(length)
        start += length
    return segment_ids[None], positions[None]


def _embeddings(length, rows=1, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, length, 32)).astype(np.float32)


@both_presets
@pytest.mark.parametrize("causal", [True, False])
def test_a_packed_row_is_each_utterance_alone(make, preset, causal):
    model = make(preset, causal)
    x, lengths = _embeddings(24), (7, 12)
    packed = apply(model, x, *_row(lengths, 24))
    start = 0
    for length in lengths:
        alone = apply(model, np.roll(x, -start, axis=1), *_row([length], 24))
        np.testing.assert_allclose(packed[:, start : start + length], alone[:, :length], rtol=0, atol=1e-5)
        start += length


@both_presets
def test_positions_matter(make, preset):
    x, ones = _embeddings(24), np.ones((1, 24), np.int32)
    ordered, reversed_ = (apply(make(preset, False), x, ones, at[None]) for at in (np.arange(24), np.arange(24)[::-1]))
    assert np.abs(ordered - reversed_).max() > 1e-2


@both_presets
def test_cached_decoding_is_the_full_forward_at_every_position(make, preset):
    model = make(preset)
    x = _embeddings(14, rows=3)
    whole = np.asarray(apply(model, x, np.ones((3, 14), np.int32), np.broadcast_to(np.arange(14), (3, 14))))
    lengths = np.array([1, 6, 4])
    # Behind a prefix's end stands garbage, which must be overwritten before it is seen.
    prefix = np.where(np.arange(6)[None, :, None] < lengths[:, None, None], x[:, :6], 1e3)
    prefill = jax.jit(lambda model, x, positions: model.prefill(x, positions, slots=14))
    features, cache = prefill(model, prefix, np.broadcast_to(np.arange(6), (3, 6)))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(features[row, :length], whole[row, :length], rtol=0, atol=1e-5)
    step = jax.jit(lambda model, x, at, cache: model.step(model.layers(), x, at, cache))
    rows = np.arange(3)
    for at in (lengths + i for i in range(14 - lengths.max())):
        feature, cache = step(model, x[rows, at], at, cache)
        np.testing.assert_allclose(feature, whole[rows, at], rtol=0, atol=1e-5)


@both_presets
def test_the_program_does_not_grow_with_depth(tiny, preset):
    def size(layers):
        definition = ModelDefinition.of(lambda key: Transformer(tiny(preset, num_layers=layers), causal=True, key=key))
        rows = jnp.ones((1, 8), jnp.int32)
        train = jax.grad(lambda params, x: definition.merge(params)(x, rows, rows, rows).sum())
        return str(jax.make_jaxpr(train)(definition.shapes, jnp.zeros((1, 8, 32)))).count("\n")

    assert size(2) == size(9)


@pytest.mark.parametrize("remat", ["dots", "attention", "full"])
def test_remat_changes_no_gradient(make, remat):
    @jax.jit
    def gradient(model, x):
        return jax.grad(lambda model: jnp.sum(model(x, *_row((4, 5), 10), _dropout_keys(10, 3)) ** 2))(model)

    kept, again = (jax.tree.leaves(gradient(make(remat=r, dropout=0.3), _embeddings(10))) for r in ("none", remat))
    assert len(kept) == len(again) > 0
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("remat", ["dots", "attention", "full"])
def test_a_remat_policy_computes_again_what_it_does_not_keep(tiny, remat):
    """In a layer's forward pass stand the products q, k, v, output, up, gate, down; their gradients are two each."""
    again = {"dots": 0, "attention": 6, "full": 6}  # nothing behind needs the last one, `down`

    def products(policy):
        config = tiny("llama", remat=policy, unroll=2)
        definition = ModelDefinition.of(lambda key: Transformer(config, causal=True, key=key))
        rows = jnp.ones((1, 8), jnp.int32)
        train = jax.grad(lambda params, x: definition.merge(params)(x, rows, rows).sum())
        text = jax.jit(train).lower(definition.shapes, jnp.zeros((1, 8, 32))).as_text()
        return sum("dot_general" in line and "x32x" in line.split("->")[0] for line in text.splitlines())

    assert products(remat) - products("none") == again[remat]


def _dropout_keys(length, seed):
    return np.full((1, length), np.random.default_rng(seed).integers(1 << 32), np.uint32)


def test_dropout_is_a_function_of_its_keys_and_off_without_them(make):
    model, plain = make(dropout=0.5), make()
    x, row = _embeddings(24), _row([10], 24)
    first, again, other = (np.asarray(apply(model, x, *row, _dropout_keys(24, seed))) for seed in (1, 1, 2))
    off = np.asarray(apply(model, x, *row))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    assert np.any(first != off)
    np.testing.assert_array_equal(off, np.asarray(apply(plain, x, *row)))


def test_dropout_falls_on_an_utterance_alike_wherever_it_is_packed(make):
    model, x, keys = make(dropout=0.5), _embeddings(24), _dropout_keys(24, 1)
    keys[:, :7] = 5
    packed = apply(model, x, *_row((7, 12), 24), keys)
    alone = apply(model, np.roll(x, -7, axis=1), *_row([12], 24), np.roll(keys, -7, axis=1))
    np.testing.assert_allclose(packed[:, 7:19], alone[:, :12], rtol=0, atol=1e-5)


@both_presets
def test_a_block_behind_its_attention_is_the_one_of_pytorch(make, preset):
    block = make(preset).layers()[1]
    x, mixed = _embeddings(5), np.random.default_rng(1).normal(size=(1, 5, 2, 16)).astype(np.float32)

    def weight(linear):
        return torch.tensor(np.asarray(linear.kernel[...]))

    norm = torch.nn.LayerNorm(32, eps=1e-5) if preset == "paper" else torch.nn.RMSNorm(32, eps=1e-5)
    residual = torch.tensor(x) + torch.tensor(mixed).reshape(1, 5, 32) @ weight(block.output)
    y = norm(residual)
    if preset == "paper":
        hidden = torch.relu(y @ weight(block.up))
    else:
        hidden = torch.nn.functional.silu(y @ weight(block.gate)) * (y @ weight(block.up))
    expected = (residual + hidden @ weight(block.down)).detach().numpy()
    np.testing.assert_allclose(block.finish(x, mixed), expected, rtol=0, atol=1e-5)


def test_biases_are_used(make):
    block = make("paper").layers()[0]
    x, mixed = _embeddings(3), np.zeros((1, 3, 2, 16), np.float32)
    before = block.finish(x, mixed)
    block.down.bias[...] = jnp.arange(32.0)
    np.testing.assert_allclose(block.finish(x, mixed) - before, np.broadcast_to(np.arange(32.0), (1, 3, 32)), atol=1e-5)


def test_the_llama_preset_has_no_biases_and_the_paper_preset_one_for_each_product(tiny):
    def names(preset):
        definition = ModelDefinition.of(lambda key: Transformer(tiny(preset), causal=True, key=key))
        return {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(definition.shapes)}

    assert not any("bias" in name for name in names("llama"))
    assert sum("bias" in name for name in names("paper")) == 6 + 2 + 1  # products, a block's norms, the last norm


def test_sinusoids_against_their_formula():
    positions = np.array([[0, 3, 1500]])
    expected = np.empty((1, 3, 8))
    for i in range(4):
        angle = positions / 10000 ** (2 * i / 8)
        expected[..., i], expected[..., i + 4] = np.sin(angle), np.cos(angle)
    np.testing.assert_allclose(sinusoids(jnp.asarray(positions), 8), expected, rtol=0, atol=1e-4)


def test_rotary_products_depend_on_the_distance_alone_and_keep_lengths():
    q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 16)).astype(np.float32)

    def product(at, by):
        return float(jnp.sum(rotate(q, jnp.array([[at]])) * rotate(k, jnp.array([[by]]))))

    assert product(5, 2) == pytest.approx(product(105, 102), abs=1e-4)
    assert abs(product(5, 2) - product(5, 3)) > 1e-3
    assert float(jnp.linalg.norm(rotate(q, jnp.array([[77]])))) == pytest.approx(np.linalg.norm(q), rel=1e-5)


def test_features_come_in_the_compute_dtype_and_parameters_stay_float32(make):
    model = make(dtype="bfloat16")
    assert jax.eval_shape(apply, model, _embeddings(4), *_row([4], 4)).dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))


@pytest.mark.parametrize("sizes", [{"width": 30, "num_heads": 4}, {"width": 36, "num_heads": 12}])
def test_a_width_that_is_not_heads_of_even_width_is_refused(sizes):
    with pytest.raises(ValueError, match=f"width {sizes['width']} must be"):
        TransformerConfig(**sizes)
