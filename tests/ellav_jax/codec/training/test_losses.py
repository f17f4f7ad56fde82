"""Spectral distance and balance against other ways to get them."""

import numpy as np
import pytest
import torch

from ellav_jax.codec.training.config import MEL_SCALES, BalanceConfig
from ellav_jax.codec.training.losses import Balancer, MelDistance, mel_bands, waveform_error


@pytest.mark.parametrize(("window", "bands"), MEL_SCALES)
def test_each_mel_band_is_an_average_over_rising_frequencies(window, bands):
    filters_MxF = mel_bands(window, bands)
    assert filters_MxF.shape == (bands, window // 2 + 1)
    torch.testing.assert_close(filters_MxF.sum(1), torch.ones(bands))
    centres_M = filters_MxF @ torch.arange(window // 2 + 1.0)
    assert (centres_M.diff() > 0).all()


def test_a_sine_is_as_loud_at_every_window_length():
    sine_S = np.sin(2 * np.pi * 3000 * np.arange(24_000) / 24_000).astype(np.float32)
    x_1xS = torch.from_numpy(sine_S)[None]
    logarithmic, _ = MelDistance()(0.1 * x_1xS, x_1xS)
    # A tenth is one decade less wherever the sine stands above the floor, and nothing where it doesn't.
    assert 0.1 < logarithmic < 1.0


def test_distances_are_those_of_spectrograms_taken_by_torch_stft(speech):
    x_1xS = torch.from_numpy(speech[0][:12_000])[None]
    y_1xS = x_1xS + 0.01 * torch.randn(x_1xS.shape, generator=torch.Generator().manual_seed(0))
    wanted = [0.0, 0.0]
    for length, bands in MEL_SCALES:
        window = torch.hann_window(length)
        spectra = [
            torch.stft(wave_1xS[0], length, length // 4, window=window, center=False, return_complex=True)
            for wave_1xS in (y_1xS, x_1xS)
        ]
        mels = [mel_bands(length, bands) @ (spectrum.abs() * 2 / window.sum()) for spectrum in spectra]
        decades = [torch.log10(mel + 1e-4) for mel in mels]
        wanted[0] += float((decades[0] - decades[1]).abs().mean()) / len(MEL_SCALES)
        wanted[1] += float((mels[0] - mels[1]).abs().mean() / (mels[1].mean() + 1e-4)) / len(MEL_SCALES)
    found = MelDistance()(y_1xS, x_1xS)
    # Not closer: the loss's square root is kept away from zero by -120 dB.
    assert [float(one) for one in found] == pytest.approx(wanted, rel=5e-3)


def test_waveform_error_does_not_depend_on_loudness():
    x_BxS = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    assert float(waveform_error(0.5 * x_BxS, x_BxS)) == pytest.approx(0.5, rel=0.01)
    assert float(waveform_error(0.1 * 0.5 * x_BxS, 0.1 * x_BxS)) == pytest.approx(0.5, rel=0.02)


def test_balanced_gradient_has_the_shares_whatever_the_losses_scale():
    y_BxS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    losses = {
        "waveform": 1000 * (y_BxS[0, 0] + 3 * y_BxS[1, 0]),
        "spectrum": 0.001 * (y_BxS[0, 1:] + y_BxS[1, 1:]).sum(),
    }
    gradient_BxS = Balancer(BalanceConfig(waveform=1.0, spectrum=3.0, norm=8.0)).gradient(losses, y_BxS)
    # Norms of the two clips: 1000 and 3000, mean 2000, to be 2; and 0.001 · √2 each, to be 6.
    torch.testing.assert_close(
        gradient_BxS, torch.tensor([[1.0, 6 / 2**0.5, 6 / 2**0.5], [3.0, 6 / 2**0.5, 6 / 2**0.5]])
    )


def test_a_loss_that_is_joining_has_a_part_of_its_weight():
    y_BxS = torch.ones(1, 2, requires_grad=True)
    losses = {"spectrum": y_BxS[0, 0], "adversarial": 5 * y_BxS[0, 1]}
    balancer = Balancer(BalanceConfig(spectrum=1.0, adversarial=4.0, norm=1.0))
    torch.testing.assert_close(balancer.gradient(losses, y_BxS, {"adversarial": 0.0}), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(balancer.gradient(losses, y_BxS, {"adversarial": 0.25}), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(balancer.gradient(losses, y_BxS), torch.tensor([[0.2, 0.8]]))


def test_norms_are_averaged_over_steps_and_carried_on():
    y_BxS = torch.ones(1, 1, requires_grad=True)
    config = BalanceConfig(spectrum=1.0, norm=1.0, decay=0.6)
    balancer = Balancer(config)
    for norm in (4, 8, 3):
        gradient_BxS = balancer.gradient({"spectrum": norm * y_BxS.sum()}, y_BxS)
        balancer = Balancer(config, balancer.norms)
    # A plain mean first, then the decay: (4 + 8) / 2 = 6, and 0.6 · 6 + 0.4 · 3 = 4.8.
    assert balancer.norms["spectrum"] == (pytest.approx(4.8), 3)
    assert float(gradient_BxS[0, 0]) == pytest.approx(3 / 4.8)
