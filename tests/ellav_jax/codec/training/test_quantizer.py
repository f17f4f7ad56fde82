"""The learning quantiser against its JAX counterpart and against averages taken by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ellav_jax.codec.config import NUM_CODEBOOKS
from ellav_jax.codec.quantizer import ResidualQuantizer
from ellav_jax.codec.training.config import QuantizerConfig
from ellav_jax.codec.training.quantizer import TrainedCodebooks
from ellav_jax.codec.weights import codebook_name

SIZE, DIMENSION, FRAMES = 16, 4, 40


@pytest.fixture(scope="module")
def books() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    shape = (SIZE, DIMENSION)
    return {codebook_name(n): torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for n in range(NUM_CODEBOOKS)}


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(2, DIMENSION, FRAMES // 2)).astype(np.float32))


@pytest.mark.parametrize("codebooks", [1, 8])
def test_latents_are_the_sum_of_the_vectors_that_the_codec_would_choose(books, latents, codebooks):
    codec = ResidualQuantizer({name: book.numpy() for name, book in books.items()})
    codes_BxTxQ = np.asarray(codec.encode(jnp.asarray(latents.transpose(1, 2).numpy())))
    expected_BxTxD = sum(books[codebook_name(n)].numpy()[codes_BxTxQ[..., n]] for n in range(codebooks))
    quantized = TrainedCodebooks(QuantizerConfig(), books, FRAMES)(latents, codebooks)
    np.testing.assert_allclose(quantized.latents_BxDxT.transpose(1, 2).numpy(), expected_BxTxD, atol=1e-5)
    assert quantized.codes_used == np.mean([len(np.unique(codes_BxTxQ[..., n])) for n in range(codebooks)])


def test_gradient_passes_straight_through_and_commitment_pulls_towards_the_vector(books, latents):
    z = latents.clone().requires_grad_()
    quantized = TrainedCodebooks(QuantizerConfig(), books, FRAMES)(z, 1)
    (straight,) = torch.autograd.grad((quantized.latents_BxDxT * 3).sum(), [z], retain_graph=True)
    torch.testing.assert_close(straight, torch.full_like(z, 3))
    (pull,) = torch.autograd.grad(quantized.commitment, [z])
    torch.testing.assert_close(pull, 2 * (z - quantized.latents_BxDxT).detach() / z.numel())


def test_vectors_follow_the_average_of_the_frames_that_chose_them(books, latents):
    decay = 0.9
    quantizer = TrainedCodebooks(QuantizerConfig(decay=decay, dead_below=0.0), books, FRAMES)
    quantizer(latents, 1, torch.Generator())
    frames_NxD = latents.numpy().transpose(0, 2, 1).reshape(-1, DIMENSION)
    old_CxD = books[codebook_name(0)].numpy()
    nearest_N = np.square(frames_NxD[:, None] - old_CxD).sum(-1).argmin(1)
    for code in range(SIZE):
        mine = frames_NxD[nearest_N == code]
        size = decay * FRAMES / SIZE + (1 - decay) * len(mine)
        expected_D = (decay * FRAMES / SIZE * old_CxD[code] + (1 - decay) * mine.sum(0)) / size
        np.testing.assert_allclose(quantizer.codebooks()[codebook_name(0)][code].numpy(), expected_D, atol=1e-5)
    assert quantizer.codebooks()[codebook_name(1)].equal(books[codebook_name(1)])  # not used, so it stays


def test_a_code_that_nobody_chooses_becomes_a_frame_of_the_batch(books, latents):
    far = {name: book.clone() for name, book in books.items()}
    far[codebook_name(0)][5] = 100.0
    quantizer = TrainedCodebooks(QuantizerConfig(decay=0.5, dead_below=0.2), far, FRAMES)
    frames_NxD = latents.transpose(1, 2).flatten(0, 1)
    distances = []
    for step in range(4):
        quantizer(latents, 1, torch.Generator().manual_seed(step))
        distances.append((frames_NxD - quantizer.codebooks()[codebook_name(0)][5]).square().sum(-1).min().item())
    assert distances[0] > 1e4  # it has half of its fair part still
    assert min(distances) == 0.0


def test_state_goes_on_where_it_was(books, latents):
    first = TrainedCodebooks(QuantizerConfig(), books, FRAMES)
    first(latents, 8, torch.Generator().manual_seed(0))
    second = TrainedCodebooks(QuantizerConfig(), first.state(), FRAMES)
    for quantizer in (first, second):
        quantizer(latents + 0.1, 8, torch.Generator().manual_seed(1))
    assert all(array.equal(second.state()[name]) for name, array in first.state().items())


def test_shares_of_steps_with_fewer_codebooks(books):
    quantizer = TrainedCodebooks(QuantizerConfig(fewer_codebooks=0.3), books, FRAMES)
    drawn = [quantizer.draw_codebooks(torch.Generator().manual_seed(seed)) for seed in range(2000)]
    assert set(drawn) == {1, 2, 4, 8}
    assert drawn.count(8) / len(drawn) == pytest.approx(0.7, abs=0.04)
