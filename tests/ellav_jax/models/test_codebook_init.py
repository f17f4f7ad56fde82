"""Embeddings that begin as the codec's codebooks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.models.codebook_init import codebook_embeddings
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.vocabulary import NUM_CODES, Vocabulary

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _codebooks(width, layers=8):
    """Layers of falling loudness around a centre that is not 0, as a codec's are."""
    rng = np.random.default_rng(0)
    scale = 2.0 ** -np.arange(layers)[:, None, None]
    return (3 + scale * rng.normal(size=(layers, NUM_CODES, width))).astype(np.float32)


def _distances(vectors):
    return np.linalg.norm(vectors[:40, None] - vectors[None, :40], axis=-1)


@pytest.mark.parametrize("width", [16, 32])
def test_a_wide_enough_embedding_keeps_every_distance_up_to_one_scale_a_layer(width):
    codebooks = _codebooks(16)
    embeddings = np.asarray(codebook_embeddings(jnp.asarray(codebooks), width, jax.random.key(0)))
    assert embeddings.shape == (8, NUM_CODES, width)
    for codebook, embedding in zip(codebooks, embeddings, strict=True):
        assert embedding.std() * np.sqrt(width) == pytest.approx(1, rel=1e-3)
        np.testing.assert_allclose(embedding.mean(0), 0, atol=1e-4)
        found, wanted = _distances(embedding), _distances(codebook)
        np.testing.assert_allclose(found / found.max(), wanted / wanted.max(), atol=1e-4)


def test_a_narrower_embedding_keeps_the_order_of_distances_roughly():
    codebooks = _codebooks(64, layers=1)
    codebooks[0, : NUM_CODES // 2, 0] += 40  # two groups far apart
    embedding = np.asarray(codebook_embeddings(jnp.asarray(codebooks), 24, jax.random.key(0)))[0]
    first, second = embedding[: NUM_CODES // 2], embedding[NUM_CODES // 2 :]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > 4 * first.std(0).max()


def _params(make):
    definition = ModelDefinition.of(make)
    return jax.jit(definition.init)(jax.random.key(5))


def test_a_gar_begins_with_the_first_codebook_in_embedding_and_head_and_random_elsewhere(tiny):
    codebooks, vocabulary = _codebooks(16), Vocabulary(5)
    config = GarConfig(tiny(), codebook_init=True)
    given = _params(lambda key: Gar(config, vocabulary, key, codebooks))
    plain = _params(lambda key: Gar(GarConfig(tiny()), vocabulary, key))
    codes = np.asarray(given["embedding"])[:NUM_CODES]
    found, wanted = _distances(codes), _distances(codebooks[0])
    np.testing.assert_allclose(found / found.max(), wanted / wanted.max(), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(given["head"]["kernel"])[:, :NUM_CODES], codes.T)
    np.testing.assert_array_equal(given["embedding"][NUM_CODES:], plain["embedding"][NUM_CODES:])
    np.testing.assert_array_equal(given["head"]["kernel"][:, NUM_CODES:], plain["head"]["kernel"][:, NUM_CODES:])


@pytest.mark.parametrize("tied", [True, False])
def test_a_nar_begins_with_all_eight_and_its_heads_with_seven(tiny, tied):
    codebooks = _codebooks(16)
    config = NarConfig(tiny(), codebook_init=True, tied_heads=tied)
    params = _params(lambda key: Nar(config, 5, key, codebooks))
    for layer in range(8):
        found, wanted = _distances(np.asarray(params["code_embedding"])[layer]), _distances(codebooks[layer])
        np.testing.assert_allclose(found / found.max(), wanted / wanted.max(), atol=1e-4)
    if not tied:
        np.testing.assert_array_equal(params["heads"], params["code_embedding"][1:])


def test_without_codebooks_the_shapes_are_the_same(tiny):
    config = NarConfig(tiny(), codebook_init=True)
    with_, without = (
        ModelDefinition.of(lambda key, books=books: Nar(config, 5, key, books)).shapes
        for books in (_codebooks(16), None)
    )
    assert jax.tree.map(lambda a: a.shape, with_) == jax.tree.map(lambda a: a.shape, without)
