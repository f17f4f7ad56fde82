"""The functional network against the encodec package's modules."""

import numpy as np
import pytest
import torch

from ellav_jax.codec.training import network


@pytest.fixture(scope="module")
def parameters(bundled_weights):
    return {name: torch.from_numpy(array.copy()) for name, array in bundled_weights.arrays.items()}


@torch.no_grad()
def test_latents_and_waveform_are_those_of_the_package(parameters, bundled_package, speech):
    clips = [wave[: 320 * 30] for wave in speech if len(wave) >= 320 * 30][:2]
    x_Bx1xS = torch.from_numpy(np.stack(clips))[:, None]
    latents = network.encode(parameters, x_Bx1xS)
    torch.testing.assert_close(latents, bundled_package.model.encoder(x_Bx1xS), rtol=1e-4, atol=1e-4)
    decoded = network.decode(parameters, latents)
    torch.testing.assert_close(decoded, bundled_package.model.decoder(latents), rtol=1e-4, atol=1e-5)
    assert decoded.shape == x_Bx1xS.shape
