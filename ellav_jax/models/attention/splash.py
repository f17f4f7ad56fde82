"""Attention by the splash attention kernel of Pallas: TPUs."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from ellav_jax.models.attention.kernels import RESIDUALS, check_row, interpreted

BLOCKS = (512, 384, 256, 128)
"""Queries, and keys, of a block: the first that divides the row. The kernel's masks skip blocks ahead of causal attention
only, not those of other segments, so blocks are as large as the chip's memory takes at any width of a head."""


def attend_splash(
    q_BxTxHxD: jax.Array, k_BxTxHxD: jax.Array, v_BxTxHxD: jax.Array, segment_ids_BxT: jax.Array, *, causal: bool
) -> jax.Array:
    """As `attend`; T a multiple of 128. Padding attends to padding: the kernel can't do with a query that sees nothing.

    A head narrower than 128 fills as much of a register's lanes; the kernel takes it as it is.
    """
    length, heads, width = q_BxTxHxD.shape[1:]
    check_row("splash", length)
    mask = (masks.CausalMask if causal else masks.FullMask)((length, length))
    attention = kernel.make_splash_mha(
        masks.MultiHeadMask([mask] * heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=_block_sizes(length),
        residual_checkpoint_name=RESIDUALS,
        interpret=interpreted(),
    )
    q_BxHxTxD, k_BxHxTxD, v_BxHxTxD = (
        jnp.swapaxes(x, 1, 2) for x in ((q_BxTxHxD * width**-0.5).astype(q_BxTxHxD.dtype), k_BxTxHxD, v_BxTxHxD)
    )
    ids = kernel.SegmentIds(segment_ids_BxT, segment_ids_BxT)
    return jnp.swapaxes(jax.vmap(attention)(q_BxHxTxD, k_BxHxTxD, v_BxHxTxD, ids), 1, 2).astype(v_BxTxHxD.dtype)


def _block_sizes(length: int) -> kernel.BlockSizes:
    """Blocks that divide the row; the gradients of queries, keys and values in one kernel."""
    block = next(block for block in BLOCKS if length % block == 0)
    return kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        use_fused_bwd_kernel=True,
    )
