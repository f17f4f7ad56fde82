"""The one transformer of GAR, NAR and VALL-E's AR: pre-norm blocks, stacked along a layer axis and run by a scan.

Arrays: B rows, T positions, D width, H heads, K width of a head, F feed-forward width, L layers.
"""

import dataclasses
import operator
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from ellav_jax.errors import InputError
from ellav_jax.models.attention import RESIDUALS, attend, attend_cache
from ellav_jax.models.dropout import drop, position_keys
from ellav_jax.sharding import constrain

PRODUCTS = "products"
"""Name, for remat policies, of the results of matrix products."""

_POLICIES = {
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCTS, RESIDUALS),
    "attention": jax.checkpoint_policies.save_only_these_names(RESIDUALS),
    "full": jax.checkpoint_policies.nothing_saveable,
}

KVCache = tuple[tuple[jax.Array, jax.Array], ...]
"""For each layer keys and values, [B, H, slots, K]; apart, so that a decoding loop updates each in place."""


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Shape and choices of the transformer.

    The published size is recalled, not confirmed: 12 layers, 16 heads, width 1024, feed-forward 4096, dropout 0.1.
    Norm, feed-forward and positions are unknown in the paper; `paper` takes those of the original Transformer with
    norms ahead, as VALL-E's authors do, and is the default.

    dropout: on the output of attention and feed-forward, not on attention weights.
    dtype: of activations and matrix products; parameters, norms, softmax and losses are float32.
    remat: what the backward pass finds, and what it computes again. "none" keeps everything that autodiff asks for;
    "dots" the results of matrix products and of attention; "attention" those of attention alone; "full" only each
    layer's input.
    attention: backend, see `ellav_jax/models/attention`; "auto" takes the platform's.
    unroll: layers in one turn of the scan; all of them make a larger program without a loop.
    """

    num_layers: int = 12
    num_heads: int = 16
    width: int = 1024
    ff_width: int = 4096
    dropout: float = 0.1
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    feed_forward: Literal["relu", "swiglu"] = "relu"
    position: Literal["sinusoidal", "rotary"] = "sinusoidal"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Literal["none", "dots", "attention", "full"] = "full"
    attention: Literal["auto", "xla", "segments", "pallas_tpu", "splash", "pallas_gpu", "cudnn"] = "auto"
    unroll: int = 1

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "width", "ff_width", "unroll"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise InputError(f"width {self.width} must be {self.num_heads} heads of an even width each")

    @property
    def head_width(self) -> int:
        """Width of a head, K."""
        return self.width // self.num_heads

    @property
    def bias(self) -> bool:
        """Matrix products carry biases where norms do: with LayerNorm yes, with RMSNorm (as in Llama) no."""
        return self.norm == "layernorm"

    @classmethod
    def paper(cls, **sizes: Any) -> Self:
        """LayerNorm, ReLU, sinusoidal positions."""
        return cls(norm="layernorm", feed_forward="relu", position="sinusoidal", **sizes)

    @classmethod
    def llama(cls, **sizes: Any) -> Self:
        """RMSNorm, SwiGLU, rotary positions."""
        return cls(norm="rmsnorm", feed_forward="swiglu", position="rotary", **sizes)


def _frequencies(width: int) -> np.ndarray:
    return (1e4 ** -(np.arange(0, width, 2) / width)).astype(np.float32)


def sinusoids(positions_BxT: jax.Array, width: int) -> jax.Array:
    """Sinusoidal position embedding [B, T, width], float32; sines in the first half, cosines in the second."""
    angles = positions_BxT[..., None] * _frequencies(width)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def rotate(x_BxTxHxK: jax.Array, positions_BxT: jax.Array) -> jax.Array:
    """Rotary position embedding; the halves of a head form the pairs, as in Llama's published checkpoints."""
    angles = positions_BxT[..., None, None] * _frequencies(x_BxTxHxK.shape[-1])
    first, second = jnp.split(x_BxTxHxK.astype(jnp.float32), 2, axis=-1)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x_BxTxHxK.dtype)


def parameter(key: jax.Array, shape: tuple[int, ...], axes: tuple[str | None, ...], scale: float) -> nnx.Param:
    """A normally distributed float32 parameter; `axes` are the logical axes that `ShardingRules` maps onto a mesh."""
    return nnx.Param(scale * jax.random.normal(key, shape, jnp.float32), axes=axes)


def kept(product: jax.Array) -> jax.Array:
    """Marks the result of a matrix product for the remat policy "dots"."""
    return checkpoint_name(product, PRODUCTS)


class Norm(nnx.Module):
    """LayerNorm or RMSNorm over the last axis, computed in float32."""

    def __init__(self, config: TransformerConfig):
        self.centred = config.norm == "layernorm"
        self.scale = nnx.Param(jnp.ones(config.width), axes=(None,))
        if self.centred:
            self.bias = nnx.Param(jnp.zeros(config.width), axes=(None,))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        if self.centred:
            y -= y.mean(-1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5)
        y *= self.scale[...]
        if self.centred:
            y += self.bias[...]
        return y.astype(x.dtype)


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., I] · kernel [I, O], in the dtype of `x`; the kernel's gradient is summed, over devices too, in its own dtype.

    Autodiff would give it in the dtype of `x`, and devices would add their parts in bfloat16.
    """
    return x @ kernel.astype(x.dtype)


def _product_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x, kernel), (x, kernel)


def _product_backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    kernel_grad = jnp.einsum("...i,...o->io", x, g, preferred_element_type=kernel.dtype)
    return g @ kernel.astype(g.dtype).T, kernel_grad


product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def biased(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., O] + bias [O], in the dtype of `y`; the bias's gradient is summed in its own dtype, by a product with ones.

    TPUs have matrix units for that, where autodiff's sum reads the gradient once more at half their pace.
    """
    return y + bias.astype(y.dtype)


def _biased_backward(bias: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    ones = jnp.ones(g.shape[:-1], g.dtype)
    return g, jnp.einsum("...,...o->o", ones, g, preferred_element_type=bias.dtype)


biased.defvjp(lambda y, bias: (biased(y, bias), bias), _biased_backward)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), whose gradient is told by the result's sign.

    From a comparison the TPU compiler would make a packed mask ahead of the backward pass, 10 % of a step's time.
    """
    return jnp.maximum(x, 0)


relu.defvjp(lambda x: (relu(x),) * 2, lambda y, g: (g * jnp.sign(y),))


class Linear(nnx.Module):
    """x·W (+ b), W [in, out]; the product runs in the dtype of `x`."""

    def __init__(self, shape: tuple[int, int], axes: tuple[str, str], *, bias: bool, scale: float, key: jax.Array):
        self.kernel = parameter(key, shape, axes, scale)
        self.bias = nnx.Param(jnp.zeros(shape[1]), axes=(axes[1],)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = product(x, self.kernel[...])
        return y if self.bias is None else biased(y, self.bias[...])


class Block(nnx.Module):
    """One layer. `project` and `finish` are apart so that training and cached decoding share them."""

    def __init__(self, config: TransformerConfig, key: jax.Array):
        self.config = config
        width, ff_width, bias = config.width, config.ff_width, config.bias
        keys = iter(jax.random.split(key, 7))
        into = width**-0.5
        out = (2 * config.num_layers) ** -0.5  # keeps the residual stream's variance constant in depth
        self.attention_norm = Norm(config)
        self.query, self.key, self.value = (
            Linear((width, width), ("embed", "heads"), bias=bias, scale=into, key=next(keys)) for _ in range(3)
        )
        self.output = Linear((width, width), ("heads", "embed"), bias=bias, scale=into * out, key=next(keys))
        self.ff_norm = Norm(config)
        self.up = Linear((width, ff_width), ("embed", "mlp"), bias=bias, scale=into, key=next(keys))
        if config.feed_forward == "swiglu":
            self.gate = Linear((width, ff_width), ("embed", "mlp"), bias=bias, scale=into, key=next(keys))
        self.down = Linear((ff_width, width), ("mlp", "embed"), bias=bias, scale=ff_width**-0.5 * out, key=next(keys))

    def project(self, x_BxTxD: jax.Array, positions_BxT: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys, values, each [B, T, H, K]; rotary positions applied."""
        y = self.attention_norm(x_BxTxD)
        shape = (*y.shape[:2], self.config.num_heads, self.config.head_width)
        q, k, v = (kept(linear(y)).reshape(shape) for linear in (self.query, self.key, self.value))
        if self.config.position == "rotary":
            q, k = rotate(q, positions_BxT), rotate(k, positions_BxT)
        return q, k, v

    def finish(
        self,
        x_BxTxD: jax.Array,
        mixed_BxTxHxK: jax.Array,
        dropout_keys_BxT: jax.Array | None = None,
        layer: jax.Array | int = 0,
    ) -> jax.Array:
        """Adds what attention mixed, then the feed-forward, to the residual stream. `layer` tells dropouts apart."""
        attended_BxTxD = kept(self.output(mixed_BxTxHxK.reshape(x_BxTxD.shape)))
        x_BxTxD = x_BxTxD + self._drop(attended_BxTxD, dropout_keys_BxT, 2 * layer)
        y = self.ff_norm(x_BxTxD)
        up_BxTxF = kept(self.up(y))
        swiglu = self.config.feed_forward == "swiglu"
        hidden_BxTxF = jax.nn.silu(kept(self.gate(y))) * up_BxTxF if swiglu else relu(up_BxTxF)
        return x_BxTxD + self._drop(self.down(hidden_BxTxF), dropout_keys_BxT, 2 * layer + 1)

    def _drop(self, x_BxTxD: jax.Array, keys_BxT: jax.Array | None, place: jax.Array | int) -> jax.Array:
        if keys_BxT is None or self.config.dropout == 0:
            return x_BxTxD
        return drop(x_BxTxD, self.config.dropout, keys_BxT, place)


class Transformer(nnx.Module):
    """L blocks and a last norm. Blocks are one stacked module, so that compile time is constant in depth."""

    def __init__(self, config: TransformerConfig, *, causal: bool, key: jax.Array):
        self.config = config
        self.causal = causal
        self.blocks = nnx.vmap(lambda k: Block(config, k))(jax.random.split(key, config.num_layers))
        self.norm = Norm(config)

    def _enter(self, x_BxTxD: jax.Array, positions_BxT: jax.Array) -> jax.Array:
        if self.config.position == "sinusoidal":
            x_BxTxD = x_BxTxD + sinusoids(positions_BxT, self.config.width)
        return x_BxTxD.astype(self.config.dtype)

    def __call__(
        self,
        x_BxTxD: jax.Array,
        segment_ids_BxT: jax.Array,
        positions_BxT: jax.Array,
        dropout_keys_BxT: jax.Array | None = None,
    ) -> jax.Array:
        """Embeddings [B, T, D] → features [B, T, D] in the compute dtype.

        dropout_keys_BxT: uint32, random bits that the positions of an utterance share; None means no dropout.
        """
        keys_BxT = None if dropout_keys_BxT is None else position_keys(dropout_keys_BxT, positions_BxT)

        def body(x: jax.Array, layer: tuple[Block, jax.Array]) -> tuple[jax.Array, None]:
            block, index = layer
            q, k, v = block.project(x, positions_BxT)
            mixed = attend(q, k, v, segment_ids_BxT, causal=self.causal, backend=self.config.attention)
            return constrain(block.finish(x, mixed, keys_BxT, index), "batch", None, None), None

        if self.config.remat != "none":
            # Inside a scan nothing can be merged by mistake.
            body = jax.checkpoint(body, policy=_POLICIES[self.config.remat], prevent_cse=False)
        layers = (self.blocks, jnp.arange(self.config.num_layers))
        x_BxTxD = constrain(self._enter(x_BxTxD, positions_BxT), "batch", None, None)
        x_BxTxD, _ = jax.lax.scan(body, x_BxTxD, layers, unroll=min(self.config.unroll, self.config.num_layers))
        return self.norm(x_BxTxD)

    def prefill(self, x_BxTxD: jax.Array, positions_BxT: jax.Array, slots: int) -> tuple[jax.Array, KVCache]:
        """Runs a prefix, fills a cache of `slots` a row. Behind a shorter row's end stands what steps overwrite unseen."""
        one_segment = jnp.ones(x_BxTxD.shape[:2], jnp.int32)

        def body(x: jax.Array, block: Block) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            q, k, v = block.project(x, positions_BxT)
            kept = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
            return block.finish(x, attend(q, k, v, one_segment, causal=True, backend="xla")), kept

        x_BxTxD, (k_LxBxHxTxK, v_LxBxHxTxK) = jax.lax.scan(body, self._enter(x_BxTxD, positions_BxT), self.blocks)
        room = ((0, 0), (0, 0), (0, slots - x_BxTxD.shape[1]), (0, 0))
        cache = tuple((jnp.pad(k, room), jnp.pad(v, room)) for k, v in zip(k_LxBxHxTxK, v_LxBxHxTxK, strict=True))
        return self.norm(x_BxTxD), cache

    def layers(self) -> list[Block]:
        """The blocks one by one: a decoding loop that is unrolled over them keeps each cache in place."""
        return [jax.tree.map(operator.itemgetter(i), self.blocks) for i in range(self.config.num_layers)]

    def step(
        self, layers: list[Block], x_BxD: jax.Array, positions_B: jax.Array, cache: KVCache
    ) -> tuple[jax.Array, KVCache]:
        """One position a row, at slot positions_B[b]. → features [B, D] and the cache with that slot written."""
        rows = jnp.arange(len(positions_B))
        positions_Bx1 = positions_B[:, None]
        x_Bx1xD = self._enter(x_BxD[:, None], positions_Bx1)
        written = []
        for block, (k_BxHxTxK, v_BxHxTxK) in zip(layers, cache, strict=True):
            q, k, v = block.project(x_Bx1xD, positions_Bx1)
            k_BxHxTxK = k_BxHxTxK.at[rows, :, positions_B].set(k[:, 0])
            v_BxHxTxK = v_BxHxTxK.at[rows, :, positions_B].set(v[:, 0])
            mixed = attend_cache(q[:, 0], k_BxHxTxK, v_BxHxTxK, positions_B)
            x_Bx1xD = block.finish(x_Bx1xD, mixed[:, None])
            written.append((k_BxHxTxK, v_BxHxTxK))
        return self.norm(x_Bx1xD)[:, 0], tuple(written)
