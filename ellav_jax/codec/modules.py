"""EnCodec's SEANet encoder and decoder (arXiv 2210.13438, section 3.2) as causal NNX modules that run chunk by chunk.

Every layer sees the present and the past only, so a clip of any length goes through in chunks of one fixed shape: each
layer carries the last steps of its input (the convolutions) or its hidden state (the LSTM) to the next chunk. One
compiled program serves all lengths, a clip's arithmetic doesn't depend on what else is in the batch, and activations
of a chunk fit the cache, which whole clips don't.

Rows of a batch are *lanes*: when a lane's clip ends, another begins in the next chunk with `Lanes.first` set, and the
layers then start as EnCodec does: convolutions on the reflection of the clip's beginning, the rest on zeros.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ellav_jax.codec.config import KERNEL_SIZE, LSTM_LAYERS, RATIOS, CodecConfig

# TPUs and recent GPUs round float32 products to fewer bits unless told otherwise, which changes codes.
PRECISION = jax.lax.Precision.HIGHEST
# The reflection at a clip's beginning must lie within its first chunk. It reaches furthest at the latents: 6 frames
# after the first.
MIN_CHUNK_FRAMES = KERNEL_SIZE

Weights = Mapping[str, np.ndarray]
State = Any  # a pytree of arrays [B, ...]


class Lanes(NamedTuple):
    """What the layers must know of the clips in a chunk: `first` bool [B], the chunk begins a clip; `frames` int32 [B],
    frames of the clip from this chunk's beginning on (more than the chunk holds, or fewer in the clip's last chunk)."""

    first: jax.Array
    frames: jax.Array


def fold_weight_norm(weights: Weights, prefix: str) -> np.ndarray:
    """The weight of a convolution: g v / |v|, the norm taken over all but the first axis, as torch's weight_norm."""
    g, v = weights[f"{prefix}.weight_g"], weights[f"{prefix}.weight_v"]
    norm = np.sqrt(np.sum(np.square(v, dtype=np.float64), axis=(1, 2), keepdims=True))
    return (g * v / norm).astype(np.float32)


def _convolve(x_BxTxI: jax.Array, kernel_KxIxO: jax.Array, stride: int) -> jax.Array:
    size, inputs, _ = kernel_KxIxO.shape
    if inputs == 1 and stride == 1:
        # One channel in: a sum of shifted copies is 40 times faster on CPU than the convolution, which has no
        # product worth the name here.
        steps = x_BxTxI.shape[1] - size + 1
        return sum(x_BxTxI[:, k : k + steps] * kernel_KxIxO[k] for k in range(size))
    return jax.lax.conv_general_dilated(
        x_BxTxI, kernel_KxIxO, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), precision=PRECISION
    )


class CausalConv(nnx.Module):
    """Convolution over the present and the past, after an ELU unless `elu` is false."""

    def __init__(self, weights: Weights, prefix: str, steps_per_frame: int, *, stride: int = 1, elu: bool = True):
        self.kernel = nnx.Param(jnp.asarray(fold_weight_norm(weights, prefix).transpose(2, 1, 0)))  # [K, I, O]
        self.bias = nnx.Param(jnp.asarray(weights[f"{prefix}.bias"]))
        self.steps_per_frame = steps_per_frame  # of the input
        self.stride = stride
        self.elu = elu

    @property
    def past(self) -> int:
        """Steps of the past that the first output of a chunk needs."""
        return self.kernel.shape[0] - self.stride

    def initial_state(self, lanes: int) -> State:
        return jnp.zeros((lanes, self.past, self.kernel.shape[1]), jnp.float32)

    def __call__(self, x_BxTxI: jax.Array, past_BxPxI: State, lanes: Lanes) -> tuple[jax.Array, State]:
        if self.elu:
            x_BxTxI = jax.nn.elu(x_BxTxI)
        if self.past:
            # EnCodec reflects about the first step; what lies beyond the end of a very short clip counts as zero.
            inside_BxP = jnp.arange(1, self.past + 1) < (lanes.frames * self.steps_per_frame)[:, None]
            mirrored_BxPxI = jnp.flip(jnp.where(inside_BxP[..., None], x_BxTxI[:, 1 : self.past + 1], 0), axis=1)
            past_BxPxI = jnp.where(lanes.first[:, None, None], mirrored_BxPxI, past_BxPxI)
            x_BxTxI = jnp.concatenate([past_BxPxI, x_BxTxI], axis=1)
            past_BxPxI = x_BxTxI[:, -self.past :]
        return _convolve(x_BxTxI, self.kernel[...], self.stride) + self.bias[...], past_BxPxI


class CausalTransposedConv(nnx.Module):
    """ELU, then a transposed convolution of stride r and kernel 2r without its last r steps (EnCodec trims those)."""

    def __init__(self, weights: Weights, prefix: str, stride: int):
        kernel_IxOx2r = fold_weight_norm(weights, prefix)
        inputs, outputs, _ = kernel_IxOx2r.shape
        # The r outputs at step t come from the inputs t - 1 and t alone: a convolution of kernel 2 with r times the
        # outputs, which are then the next r steps.
        kernel_Ix2xrxO = kernel_IxOx2r.reshape(inputs, outputs, 2, stride).transpose(0, 2, 3, 1)
        kernel_2xIxrO = kernel_Ix2xrxO[:, ::-1].transpose(1, 0, 2, 3).reshape(2, inputs, stride * outputs)
        self.kernel = nnx.Param(jnp.asarray(kernel_2xIxrO))
        self.bias = nnx.Param(jnp.asarray(weights[f"{prefix}.bias"]))
        self.stride = stride

    def initial_state(self, lanes: int) -> State:
        return jnp.zeros((lanes, 1, self.kernel.shape[1]), jnp.float32)

    def __call__(self, x_BxTxI: jax.Array, past_Bx1xI: State, lanes: Lanes) -> tuple[jax.Array, State]:
        past_Bx1xI = jnp.where(lanes.first[:, None, None], 0, past_Bx1xI)
        x_BxTxI = jnp.concatenate([past_Bx1xI, jax.nn.elu(x_BxTxI)], axis=1)
        y_BxTxrO = _convolve(x_BxTxI, self.kernel[...], 1)
        batch, steps, _ = y_BxTxrO.shape
        return y_BxTxrO.reshape(batch, steps * self.stride, -1) + self.bias[...], x_BxTxI[:, -1:]


class ResidualBlock(nnx.Module):
    """Two convolutions (kernel 3, then 1) beside a linear shortcut."""

    def __init__(self, weights: Weights, prefix: str, steps_per_frame: int):
        self.wide = CausalConv(weights, f"{prefix}.block.1.conv.conv", steps_per_frame)
        self.narrow = CausalConv(weights, f"{prefix}.block.3.conv.conv", steps_per_frame)
        self.shortcut = CausalConv(weights, f"{prefix}.shortcut.conv.conv", steps_per_frame, elu=False)

    def initial_state(self, lanes: int) -> State:
        return tuple(layer.initial_state(lanes) for layer in (self.wide, self.narrow, self.shortcut))

    def __call__(self, x_BxTxC: jax.Array, state: State, lanes: Lanes) -> tuple[jax.Array, State]:
        wide_state, narrow_state, shortcut_state = state
        y, wide_state = self.wide(x_BxTxC, wide_state, lanes)
        y, narrow_state = self.narrow(y, narrow_state, lanes)
        skip, shortcut_state = self.shortcut(x_BxTxC, shortcut_state, lanes)
        return skip + y, (wide_state, narrow_state, shortcut_state)


def _sigmoid(x: jax.Array) -> jax.Array:
    # By tanh, which XLA has as one polynomial on CPU; jax.nn.sigmoid is an exponential and a division there.
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


class LstmLayer(nnx.Module):
    """One LSTM layer, gates in torch's order (input, forget, cell, output)."""

    def __init__(self, weights: Weights, prefix: str, layer: int):
        # The input's products are made for all steps at once; only the hidden state's are made step by step.
        self.input_kernel = nnx.Param(jnp.asarray(weights[f"{prefix}.weight_ih_l{layer}"].T))
        self.hidden_kernel = nnx.Param(jnp.asarray(weights[f"{prefix}.weight_hh_l{layer}"].T))
        self.bias = nnx.Param(
            jnp.asarray(weights[f"{prefix}.bias_ih_l{layer}"] + weights[f"{prefix}.bias_hh_l{layer}"])
        )

    def initial_state(self, lanes: int) -> State:
        zeros = jnp.zeros((lanes, self.hidden_kernel.shape[0]), jnp.float32)
        return zeros, zeros

    def __call__(self, x_TxBxC: jax.Array, state: State) -> tuple[jax.Array, State]:
        projected_TxBx4C = jnp.matmul(x_TxBxC, self.input_kernel[...], precision=PRECISION) + self.bias[...]
        hidden_kernel_Cx4C = self.hidden_kernel[...]

        def step(carry: State, projected_Bx4C: jax.Array) -> tuple[State, jax.Array]:
            hidden_BxC, cell_BxC = carry
            gates_Bx4C = projected_Bx4C + jnp.matmul(hidden_BxC, hidden_kernel_Cx4C, precision=PRECISION)
            i, f, g, o = jnp.split(gates_Bx4C, 4, axis=-1)
            cell_BxC = _sigmoid(f) * cell_BxC + _sigmoid(i) * jnp.tanh(g)
            hidden_BxC = _sigmoid(o) * jnp.tanh(cell_BxC)
            return (hidden_BxC, cell_BxC), hidden_BxC

        state, hidden_TxBxC = jax.lax.scan(step, state, projected_TxBx4C)
        return hidden_TxBxC, state


class SkipLstm(nnx.Module):
    """Stacked LSTM layers, their input added to their output."""

    def __init__(self, weights: Weights, prefix: str):
        self.layers = nnx.List([LstmLayer(weights, prefix, layer) for layer in range(LSTM_LAYERS)])

    def initial_state(self, lanes: int) -> State:
        return tuple(layer.initial_state(lanes) for layer in self.layers)

    def __call__(self, x_BxTxC: jax.Array, state: State, lanes: Lanes) -> tuple[jax.Array, State]:
        state = jax.tree.map(lambda leaf_BxC: jnp.where(lanes.first[:, None], 0, leaf_BxC), state)
        x_TxBxC = jnp.swapaxes(x_BxTxC, 0, 1)
        y_TxBxC, new_state = x_TxBxC, []
        for layer, layer_state in zip(self.layers, state, strict=True):
            y_TxBxC, layer_state = layer(y_TxBxC, layer_state)
            new_state.append(layer_state)
        return jnp.swapaxes(y_TxBxC + x_TxBxC, 0, 1), tuple(new_state)


class _Seanet(nnx.Module):
    """Layers one after the other, each with its state."""

    layers: nnx.List

    def initial_state(self, lanes: int) -> State:
        return tuple(layer.initial_state(lanes) for layer in self.layers)

    def __call__(self, x_BxTxC: jax.Array, state: State, lanes: Lanes) -> tuple[jax.Array, State]:
        new_state = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x_BxTxC, layer_state = layer(x_BxTxC, layer_state, lanes)
            new_state.append(layer_state)
        return x_BxTxC, tuple(new_state)


class SeanetEncoder(_Seanet):
    """Waveform chunk [B, frames * 320, 1] → latents [B, frames, D]. The numbers in the names are the package's."""

    def __init__(self, config: CodecConfig, weights: Weights):
        steps = config.hop
        layers: list[nnx.Module] = [CausalConv(weights, "encoder.model.0.conv.conv", steps, elu=False)]
        index = 1
        for ratio in reversed(RATIOS):
            layers.append(ResidualBlock(weights, f"encoder.model.{index}", steps))
            layers.append(CausalConv(weights, f"encoder.model.{index + 2}.conv.conv", steps, stride=ratio))
            steps //= ratio
            index += 3
        layers.append(SkipLstm(weights, f"encoder.model.{index}.lstm"))
        layers.append(CausalConv(weights, f"encoder.model.{index + 2}.conv.conv", steps))
        self.layers = nnx.List(layers)


class SeanetDecoder(_Seanet):
    """Quantised latents [B, frames, D] → waveform chunk [B, frames * 320, 1]."""

    def __init__(self, config: CodecConfig, weights: Weights):
        layers: list[nnx.Module] = [CausalConv(weights, "decoder.model.0.conv.conv", 1, elu=False)]
        layers.append(SkipLstm(weights, "decoder.model.1.lstm"))
        index = 3
        for i, ratio in enumerate(RATIOS):
            layers.append(CausalTransposedConv(weights, f"decoder.model.{index}.convtr.convtr", ratio))
            layers.append(ResidualBlock(weights, f"decoder.model.{index + 1}", math.prod(RATIOS[: i + 1])))
            index += 3
        layers.append(CausalConv(weights, f"decoder.model.{index}.conv.conv", config.hop))
        self.layers = nnx.List(layers)
