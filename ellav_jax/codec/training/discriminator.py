"""EnCodec's multi-scale STFT discriminator (arXiv 2210.13438, section 3.4): is a complex spectrogram a recording's?"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ellav_jax.codec.training.config import DiscriminatorConfig


class Judgement(NamedTuple):
    """Of one scale: logits [B, 1, T, F'] (above 0: a recording) and the activations after each convolution."""

    logits: torch.Tensor
    features: list[torch.Tensor]


class StftDiscriminator(nn.Module):
    """One scale: real and imaginary part as two channels over time and frequency, through 2-D convolutions."""

    def __init__(self, window: int, filters: int):
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        sizes = [((3, 9), (1, 1), (1, 1)), *(((3, 9), (1, 2), (dilation, 1)) for dilation in (1, 2, 4))]
        sizes.append(((3, 3), (1, 1), (1, 1)))
        self.convolutions = nn.ModuleList(
            _convolution(2 if number == 0 else filters, filters, *size) for number, size in enumerate(sizes)
        )
        self.last = _convolution(filters, 1, (3, 3), (1, 1), (1, 1))

    def forward(self, x_BxS: torch.Tensor) -> Judgement:
        frames_BxTxW = x_BxS.unfold(-1, len(self.window), len(self.window) // 4)
        # By the window's root mean square, as torch's normalised STFT has it.
        scale = self.window / self.window.square().sum().sqrt()
        spectrum_BxTxF = torch.fft.rfft(frames_BxTxW * scale)
        x = torch.stack([spectrum_BxTxF.real, spectrum_BxTxF.imag], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
            features.append(x)
        return Judgement(self.last(x).float(), features)


class MultiScaleDiscriminator(nn.Module):
    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig()):
        super().__init__()
        self.scales = nn.ModuleList(StftDiscriminator(window, config.filters) for window in config.windows)

    def forward(self, x_BxS: torch.Tensor) -> list[Judgement]:
        """Waveforms [B, S], S at least the longest window → one judgement a scale."""
        return [scale(x_BxS) for scale in self.scales]


def discriminator_loss(recordings: list[Judgement], decoded: list[Judgement]) -> torch.Tensor:
    """Hinge loss of the discriminator, mean over its scales."""
    terms = [
        F.relu(1 - r.logits).mean() + F.relu(1 + d.logits).mean() for r, d in zip(recordings, decoded, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial_loss(decoded: list[Judgement]) -> torch.Tensor:
    """Hinge loss of the codec, mean over the scales: max(0, 1 - logit)."""
    return torch.stack([F.relu(1 - judgement.logits).mean() for judgement in decoded]).mean()


def feature_loss(recordings: list[Judgement], decoded: list[Judgement]) -> torch.Tensor:
    """L1 distance of the features, each relative to the recordings' mean magnitude, mean over layers and scales.

    `recordings` are judged without a gradient. Features may be bfloat16; the means are not.
    """
    terms = [
        (theirs - ours).abs().mean(dtype=torch.float32) / theirs.abs().mean(dtype=torch.float32)
        for r, d in zip(recordings, decoded, strict=True)
        for theirs, ours in zip(r.features, d.features, strict=True)
    ]
    return torch.stack(terms).mean()


def _convolution(
    inputs: int, outputs: int, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> nn.Module:
    padding = tuple((extent - 1) * step // 2 for extent, step in zip(size, dilation, strict=True))
    return weight_norm(nn.Conv2d(inputs, outputs, size, stride, padding, dilation))
