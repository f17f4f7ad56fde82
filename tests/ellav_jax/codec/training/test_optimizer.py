"""One optimiser step beside what Muon and Adam are defined to do."""

import numpy as np
import pytest
import torch

from ellav_jax.codec.training.optimizer import CodecOptimizer
from ellav_jax.errors import InputError

RATE = 0.01


def stepped(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of a parameter of this shape, and by how much the first step changed it."""
    generator = torch.Generator().manual_seed(1)
    before = torch.randn(shape, generator=generator)
    gradient = torch.randn(shape, generator=generator)
    parameters = {"matrix": torch.ones(16, 16, requires_grad=True), "vector": torch.ones(3, requires_grad=True)}
    parameters |= {"tested": before.clone().requires_grad_()}
    optimizer = CodecOptimizer(parameters, (0.8, 0.99), 0.95)
    for array in parameters.values():
        array.grad = torch.ones_like(array)
    parameters["tested"].grad = gradient.clone()
    optimizer.step(RATE)
    assert all(array.grad is None for array in parameters.values())
    return gradient.numpy(), (parameters["tested"].detach() - before).numpy()


@pytest.mark.parametrize("shape", [(32, 24), (12, 10, 5), (64, 8, 1)])
def test_a_matrix_moves_by_its_gradients_directions_all_alike(shape):
    gradient, change = (array.reshape(len(array), -1).astype(np.float64) for array in stepped(shape))
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    along = -left.T @ change @ right.T / (RATE * 0.2 * np.sqrt(max(gradient.shape)))
    # Newton and Schulz's iteration in bfloat16 leaves singular values about 1, not at 1.
    assert (np.abs(np.diag(along) - 1) < 0.5).all()
    assert np.abs(along - np.diag(np.diag(along))).max() < 0.1


@pytest.mark.parametrize("shape", [(24,), (16, 1, 1), (16, 1, 7), (1, 16, 7)])
def test_what_is_no_matrix_moves_as_with_adam(shape):
    gradient, change = stepped(shape)
    np.testing.assert_allclose(change, -RATE * np.sign(gradient), rtol=1e-3)


def test_a_torch_without_muon_is_refused(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(InputError, match=r"no Muon optimiser; expected 2\.9 or newer"):
        CodecOptimizer({}, (0.8, 0.99), 0.95)
