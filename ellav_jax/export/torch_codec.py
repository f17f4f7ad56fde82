"""EnCodec 24 kHz in plain PyTorch: a waveform to 8 codes a frame, 75 frames a second, and back.

Parameters have the names of the encodec package's state dict (weight norm kept as weight_g and weight_v). Arrays: B clips,
S samples, T steps, C channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ellav_jax.export.torch_modules import NUM_LAYERS

SAMPLE_RATE = 24_000
RATIOS = (8, 5, 4, 2)
"""Upsampling factors in the decoder's order; the encoder reverses them."""
HOP = math.prod(RATIOS)
"""Samples a frame."""


class NormedWeight(nn.Module):
    """Weight [A, B, K] of a convolution as g · v / |v|, the norm taken over all but the first axis, and its bias."""

    def __init__(self, first: int, second: int, size: int, biases: int):
        super().__init__()
        self.weight_v = nn.Parameter(torch.randn(first, second, size))
        self.weight_g = nn.Parameter(torch.ones(first, 1, 1))
        self.bias = nn.Parameter(torch.zeros(biases))

    def weight(self) -> Tensor:
        """The weight itself."""
        norm = self.weight_v.double().square().sum((1, 2), keepdim=True).sqrt()
        return (self.weight_g * self.weight_v / norm).to(self.weight_v.dtype)


class CausalConv(nn.Module):
    """ELU (unless `elu` is false), then a convolution over the present and the past; the clip's beginning is reflected."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, elu: bool = True):
        super().__init__()
        self.conv = nn.ModuleDict({"conv": NormedWeight(outputs, inputs, size, outputs)})
        self.past, self.stride, self.elu = size - stride, stride, elu

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] → [B, C', T / stride]."""
        x = F.elu(x) if self.elu else x
        if self.past:
            mirrored = x[..., 1 : self.past + 1]
            # What lies beyond the end of a very short clip counts as zero.
            mirrored = F.pad(mirrored, (0, self.past - mirrored.shape[-1]))
            x = torch.cat([mirrored.flip(-1), x], -1)
        conv = self.conv["conv"]
        return F.conv1d(x, conv.weight(), conv.bias, self.stride)


class CausalTransposedConv(nn.Module):
    """ELU, then a transposed convolution of stride r and kernel 2r without its last r steps."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.convtr = nn.ModuleDict({"convtr": NormedWeight(inputs, outputs, 2 * stride, outputs)})
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] → [B, C', T · r]."""
        conv = self.convtr["convtr"]
        return F.conv_transpose1d(F.elu(x), conv.weight(), conv.bias, self.stride)[..., : x.shape[-1] * self.stride]


class ResidualBlock(nn.Module):
    """Two convolutions beside a linear shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.ModuleDict(
            {"1": CausalConv(channels, channels // 2, 3), "3": CausalConv(channels // 2, channels, 1)}
        )
        self.shortcut = CausalConv(channels, channels, 1, elu=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] → the same."""
        return self.shortcut(x) + self.block["3"](self.block["1"](x))


class SkipLstm(nn.Module):
    """Two LSTM layers, their input added to their output."""

    def __init__(self, channels: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] → the same."""
        return x + self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)


class Codebook(nn.Module):
    """Vectors [N, D]."""

    def __init__(self, size: int, dimension: int):
        super().__init__()
        self.embed = nn.Parameter(torch.zeros(size, dimension))


def _encoder(filters: int, dimension: int) -> nn.ModuleDict:
    layers, index, channels = {"0": CausalConv(1, filters, 7, elu=False)}, 1, filters
    for ratio in reversed(RATIOS):
        layers[f"{index}"] = ResidualBlock(channels)
        layers[f"{index + 2}"] = CausalConv(channels, 2 * channels, 2 * ratio, stride=ratio)
        index, channels = index + 3, 2 * channels
    layers |= {f"{index}": SkipLstm(channels), f"{index + 2}": CausalConv(channels, dimension, 7)}
    return nn.ModuleDict({"model": nn.ModuleDict(layers)})


def _decoder(filters: int, dimension: int) -> nn.ModuleDict:
    channels = filters * 2 ** len(RATIOS)
    layers, index = {"0": CausalConv(dimension, channels, 7, elu=False), "1": SkipLstm(channels)}, 3
    for ratio in RATIOS:
        layers[f"{index}"] = CausalTransposedConv(channels, channels // 2, ratio)
        layers[f"{index + 1}"] = ResidualBlock(channels // 2)
        index, channels = index + 3, channels // 2
    layers[f"{index}"] = CausalConv(channels, 1, 7)
    return nn.ModuleDict({"model": nn.ModuleDict(layers)})


class Codec(nn.Module):
    """EnCodec of so many filters; its first 8 codebooks. Always float32: in fewer bits it would give other codes."""

    def __init__(self, filters: int = 32, dimension: int = 128, codebook_size: int = 1024):
        super().__init__()
        self.encoder, self.decoder = _encoder(filters, dimension), _decoder(filters, dimension)
        layers = nn.ModuleList(
            nn.ModuleDict({"_codebook": Codebook(codebook_size, dimension)}) for _ in range(NUM_LAYERS)
        )
        self.quantizer = nn.ModuleDict({"vq": nn.ModuleDict({"layers": layers})})

    def _codebooks(self) -> list[Tensor]:
        return [layer["_codebook"].embed for layer in self.quantizer["vq"]["layers"]]

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> Tensor:
        """Mono samples [S] at 24 kHz, in −1 … 1 → codes [ceil(S / 320), 8]. Raises ValueError for anything else."""
        if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
            raise ValueError(f"expected mono floating-point samples [S], got {waveform.dtype} {list(waveform.shape)}")
        first = self._codebooks()[0]
        x = F.pad(waveform.to(first.device, torch.float32), (0, -len(waveform) % HOP))[None, None]
        for layer in self.encoder["model"].values():
            x = layer(x)
        residual, codes = x[0].T, []
        for vectors in self._codebooks():
            chosen = (residual @ vectors.T - 0.5 * vectors.square().sum(-1)).argmax(-1)  # the nearest vector
            residual = residual - vectors[chosen]
            codes.append(chosen)
        return torch.stack(codes, -1)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [T, 8] → samples [T · 320] at 24 kHz."""
        if codes.ndim != 2 or codes.shape[1] != NUM_LAYERS or not len(codes):
            raise ValueError(f"expected codes [T, {NUM_LAYERS}], got {list(codes.shape)}")
        vectors = self._codebooks()
        x = sum(vectors[q][codes[:, q].to(vectors[q].device)] for q in range(NUM_LAYERS)).T[None]
        for layer in self.decoder["model"].values():
            x = layer(x)
        return x[0, 0]
