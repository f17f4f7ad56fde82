"""How far a decoded waveform is from the one that was encoded, and the balance between losses."""

from collections.abc import Mapping

import numpy as np
import torch

from ellav_jax.codec.config import SAMPLE_RATE
from ellav_jax.codec.training.config import MEL_SCALES, BalanceConfig

# Of the spectrum's amplitude: -80 dB of a full-scale sine. The logarithm's gradient grows without bound towards silence,
# and at -100 dB pauses that nobody hears took most of it.
_FLOOR = 1e-4


def mel_bands(window: int, bands: int) -> torch.Tensor:
    """Triangular mel filters [bands, window // 2 + 1] over 0 … 12 kHz, each with sum 1. A band that falls between two
    frequencies takes the nearest."""
    frequencies_F = np.linspace(0, SAMPLE_RATE / 2, window // 2 + 1)
    mel = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, mel, bands + 2) / 2595) - 1)
    rising = (frequencies_F - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies_F) / np.diff(edges)[1:, None]
    filters_MxF = np.clip(np.minimum(rising, falling), 0, None)
    nearest_M = np.abs(frequencies_F - edges[1:-1, None]).argmin(axis=1)
    empty_M = filters_MxF.sum(axis=1) < 1e-9
    filters_MxF[empty_M, nearest_M[empty_M]] = 1
    return torch.from_numpy(filters_MxF / filters_MxF.sum(axis=1, keepdims=True)).float()


class MelDistance:
    """Mean over the scales of the L1 distance of mel spectra: of their logarithms (decades), and of the amplitudes
    relative to the target's mean. The logarithm weighs soft sounds, which a recogniser needs, as loud ones."""

    def __init__(self) -> None:
        self._bands = [mel_bands(window, bands).T.contiguous() for window, bands in MEL_SCALES]
        # Scaled so that a full-scale sine has amplitude 1 at every window length.
        self._windows = [2 * window / window.sum() for window in (torch.hann_window(w) for w, _ in MEL_SCALES)]

    def __call__(self, y_BxS: torch.Tensor, x_BxS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoded and encoded waveforms [B, S] → distance of logarithms, relative distance of amplitudes."""
        logarithmic = relative = 0.0
        for window, bands in zip(self._windows, self._bands, strict=True):
            ours, theirs = _amplitudes(y_BxS, window) @ bands, _amplitudes(x_BxS, window) @ bands
            logarithmic += ((ours + _FLOOR).log10() - (theirs + _FLOOR).log10()).abs().mean()
            relative += (ours - theirs).abs().mean() / (theirs.mean() + _FLOOR)
        return logarithmic / len(MEL_SCALES), relative / len(MEL_SCALES)


def _amplitudes(x_BxS: torch.Tensor, window_W: torch.Tensor) -> torch.Tensor:
    frames_BxTxW = x_BxS.unfold(-1, len(window_W), len(window_W) // 4)
    spectrum_BxTxF = torch.fft.rfft(frames_BxTxW * window_W)
    return torch.sqrt(torch.view_as_real(spectrum_BxTxF).square().sum(-1) + 1e-12)


def waveform_error(y_BxS: torch.Tensor, x_BxS: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of |y - x| / |x|, sums over a clip's samples: the paper's L1, whatever the clip's loudness."""
    return ((y_BxS - x_BxS).abs().mean(-1) / (x_BxS.abs().mean(-1) + 1e-3)).mean()


class Balancer:
    """Adds up the gradients of losses on one tensor, each divided by the moving average of its own norm, so that a weight
    is a share of the whole whatever the loss's scale (EnCodec, arXiv 2210.13438, section 3.4)."""

    def __init__(self, config: BalanceConfig, norms: Mapping[str, tuple[float, int]] | None = None):
        """norms: those of a balancer before, to go on from."""
        self._config = config
        self.norms: dict[str, tuple[float, int]] = dict(norms or {})
        """By loss, the average of its gradient's norm (itself a mean over the batch's clips) and of how many steps."""

    def gradient(
        self, losses: Mapping[str, torch.Tensor], y_BxS: torch.Tensor, joined: Mapping[str, float] | None = None
    ) -> torch.Tensor:
        """The gradient on y of the balanced sum of `losses`, which are named as the fields of `BalanceConfig`.

        joined: by loss, the part of its weight that it has (1 where it isn't named).
        """
        weights = {name: getattr(self._config, name) * (joined or {}).get(name, 1.0) for name in losses}
        total_BxS = torch.zeros_like(y_BxS)
        for name, loss in losses.items():
            (gradient_BxS,) = torch.autograd.grad(loss, [y_BxS], retain_graph=True)
            average, steps = self.norms.get(name, (0.0, 0))
            # The first steps count alike: a single one may be of pauses, whose gradients are large.
            decay = min(self._config.decay, steps / (steps + 1))
            average = decay * average + (1 - decay) * float(gradient_BxS.norm(dim=-1).mean())
            self.norms[name] = average, steps + 1
            share = weights[name] / sum(weights.values())
            total_BxS = total_BxS + gradient_BxS * (self._config.norm * share / (average + 1e-12))
        return total_BxS
