"""Model FLOPs in closed form.

A training step counts forward + 2 × backward of the matrix products that the model's definition asks for: 6 FLOPs a
weight and real position, attention by Σ over segments of length² (halved when causal), heads only where loss is borne.
Padding, recomputation, embedding look-ups, norms and softmax are not counted; nor are the NAR's six heads of other stages.
"""

import numpy as np

from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.vocabulary import NUM_CODES, NUM_OUTPUTS


def layer_matrices(config: TransformerConfig) -> int:
    """Numbers in the matrices of one layer."""
    return 4 * config.width**2 + (3 if config.feed_forward == "swiglu" else 2) * config.width * config.ff_width


def transformer_forward_flops(config: TransformerConfig, segment_lengths: np.ndarray, *, causal: bool) -> float:
    """Forward FLOPs of the blocks over segments of these lengths."""
    lengths = np.asarray(segment_lengths, np.float64)
    products = 2 * layer_matrices(config) * lengths.sum()
    attention = 4 * config.width * (lengths**2).sum() * (0.5 if causal else 1.0)
    return config.num_layers * (products + attention)


def gar_step_flops(config: TransformerConfig, segment_lengths: np.ndarray, num_targets: int) -> float:
    """FLOPs of one training step of the GAR."""
    head = 2 * config.width * NUM_OUTPUTS * num_targets
    return 3 * (transformer_forward_flops(config, segment_lengths, causal=True) + head)


def nar_step_flops(config: TransformerConfig, segment_lengths: np.ndarray, num_targets: int) -> float:
    """FLOPs of one training step of the NAR."""
    head = 2 * config.width * NUM_CODES * num_targets
    return 3 * (transformer_forward_flops(config, segment_lengths, causal=False) + head)


def segment_lengths(segment_ids_BxT: np.ndarray) -> np.ndarray:
    """Lengths of all segments of a batch; padding (id 0) left out. Ids are consecutive in a row."""
    rows = len(segment_ids_BxT)
    most = int(segment_ids_BxT.max(initial=0)) + 1
    counts = np.bincount((segment_ids_BxT + most * np.arange(rows)[:, None]).ravel(), minlength=rows * most)
    lengths = counts.reshape(rows, most)[:, 1:]
    return lengths[lengths > 0]
