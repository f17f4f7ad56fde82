"""EnCodec's SEANet encoder and decoder in PyTorch, as functions of one flat dict of arrays.

The names are the encodec package's, which `ellav_jax.codec.weights.expected_shapes` lists: what is trained, averaged,
saved and exported is that dict, and no module tree has to be translated to it.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from ellav_jax.codec.config import LSTM_LAYERS, RATIOS

Parameters = Mapping[str, torch.Tensor]


def encode(parameters: Parameters, x_Bx1xS: torch.Tensor) -> torch.Tensor:
    """Waveforms of whole frames [B, 1, T * 320] → latents [B, D, T]. T must be at least 7 (the reflection's reach)."""
    x = _conv(parameters, "encoder.model.0.conv.conv", x_Bx1xS, elu=False)
    index = 1
    for ratio in reversed(RATIOS):
        x = _residual_block(parameters, f"encoder.model.{index}", x)
        x = _conv(parameters, f"encoder.model.{index + 2}.conv.conv", x, stride=ratio)
        index += 3
    x = _skip_lstm(parameters, f"encoder.model.{index}.lstm", x)
    return _conv(parameters, f"encoder.model.{index + 2}.conv.conv", x)


def decode(parameters: Parameters, z_BxDxT: torch.Tensor) -> torch.Tensor:
    """Quantised latents [B, D, T] → waveforms [B, 1, T * 320]."""
    x = _conv(parameters, "decoder.model.0.conv.conv", z_BxDxT, elu=False)
    x = _skip_lstm(parameters, "decoder.model.1.lstm", x)
    index = 3
    for ratio in RATIOS:
        x = _transposed_conv(parameters, f"decoder.model.{index}.convtr.convtr", x, ratio)
        x = _residual_block(parameters, f"decoder.model.{index + 1}", x)
        index += 3
    return _conv(parameters, f"decoder.model.{index}.conv.conv", x)


def _weight(parameters: Parameters, prefix: str) -> torch.Tensor:
    return torch._weight_norm(parameters[f"{prefix}.weight_v"], parameters[f"{prefix}.weight_g"], 0)


def _conv(parameters: Parameters, prefix: str, x: torch.Tensor, *, stride: int = 1, elu: bool = True) -> torch.Tensor:
    weight_OxIxK = _weight(parameters, prefix)
    x = F.elu(x) if elu else x
    past = weight_OxIxK.shape[-1] - stride
    x = F.pad(x, (past, 0), mode="reflect") if past else x
    return F.conv1d(x, weight_OxIxK, parameters[f"{prefix}.bias"], stride)


def _transposed_conv(parameters: Parameters, prefix: str, x: torch.Tensor, stride: int) -> torch.Tensor:
    y = F.conv_transpose1d(F.elu(x), _weight(parameters, prefix), parameters[f"{prefix}.bias"], stride)
    return y[..., :-stride]


def _residual_block(parameters: Parameters, prefix: str, x: torch.Tensor) -> torch.Tensor:
    y = _conv(parameters, f"{prefix}.block.3.conv.conv", _conv(parameters, f"{prefix}.block.1.conv.conv", x))
    return _conv(parameters, f"{prefix}.shortcut.conv.conv", x, elu=False) + y


def _skip_lstm(parameters: Parameters, prefix: str, x_BxCxT: torch.Tensor) -> torch.Tensor:
    x_TxBxC = x_BxCxT.permute(2, 0, 1)
    weights = [
        parameters[f"{prefix}.{kind}_{side}_l{layer}"]
        for layer in range(LSTM_LAYERS)
        for kind in ("weight", "bias")
        for side in ("ih", "hh")
    ]
    zeros = x_TxBxC.new_zeros(LSTM_LAYERS, *x_TxBxC.shape[1:])
    # Arguments after the weights: biases, layers, dropout, training, bidirectional, batch first.
    y_TxBxC, _, _ = torch.lstm(x_TxBxC, (zeros, zeros), weights, True, LSTM_LAYERS, 0.0, True, False, False)
    return (x_TxBxC + y_TxBxC).permute(1, 2, 0)
