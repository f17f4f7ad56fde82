"""Attention by the Triton kernel that comes with Pallas: GPUs."""

import functools
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.gpu.attention import BlockSizes, mha

from ellav_jax.models.attention.kernels import RESIDUALS, check_row, interpreted

_Kept = tuple[jax.Array, ...]


def attend_pallas_gpu(
    q_BxTxHxD: jax.Array, k_BxTxHxD: jax.Array, v_BxTxHxD: jax.Array, segment_ids_BxT: jax.Array, *, causal: bool
) -> jax.Array:
    """As `attend`; T a multiple of 128. Padding attends to padding."""
    check_row("pallas_gpu", q_BxTxHxD.shape[1])
    options = (q_BxTxHxD.shape[-1] ** -0.5, causal, interpreted())
    return _attend(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, segment_ids_BxT, options)


def _arguments(options: tuple[float, bool, bool]) -> tuple[Any, ...]:
    """Those of `mha` behind its arrays, up to `interpret` and `debug`."""
    scale, causal, interpret = options
    return scale, causal, BlockSizes.get_default(), "triton", None, 2, None, interpret, False


# The kernel with its own gradient, so that remat policies can keep what it saves: it does not name that itself.
@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, segment_ids_BxT: jax.Array, options: tuple) -> jax.Array:
    return mha(q, k, v, segment_ids_BxT, *_arguments(options), False)


def _attend_and_keep(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids_BxT: jax.Array, options: tuple
) -> tuple[jax.Array, _Kept]:
    out, log_sum_BxHxT = mha(q, k, v, segment_ids_BxT, *_arguments(options), True)
    out, log_sum_BxHxT = (checkpoint_name(x, RESIDUALS) for x in (out, log_sum_BxHxT))
    return out, (q, k, v, segment_ids_BxT, out, log_sum_BxHxT)


def _gradients(options: tuple, kept: _Kept, d_out: jax.Array) -> tuple[jax.Array | None, ...]:
    return mha.bwd(*_arguments(options), False, kept, d_out)


_attend.defvjp(_attend_and_keep, _gradients)
