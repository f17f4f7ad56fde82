"""Model FLOPs in closed form, the devices' peaks, and MFU.

A training step counts forward + 2 × backward of the matrix products that the model's definition asks for: 6 FLOPs a
weight and real position, attention by Σ over segments of length² (halved when causal), heads only where loss is borne.
Padding, recomputation, embedding look-ups, norms and softmax are not counted; nor are the NAR's six heads of other stages.
"""

import numpy as np

from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.vocabulary import NUM_CODES, NUM_OUTPUTS

# Dense bfloat16 peak in FLOP/s of one JAX device, by the start of its `device_kind`. Sources: Google Cloud's TPU pages
# and "How to Scale Your Model" (v4, v5e, v5p, v6e); NVIDIA's data sheets (A100, H100 SXM, H200).
PEAKS = {
    "TPU v4": 2.75e14,
    "TPU v5 lite": 1.97e14,
    "TPU v5e": 1.97e14,
    "TPU v5p": 4.59e14,
    "TPU v5": 4.59e14,
    "TPU v6 lite": 9.18e14,
    "TPU v6e": 9.18e14,
    "NVIDIA A100": 3.12e14,
    "NVIDIA H100 PCIe": 7.56e14,
    "NVIDIA H100 NVL": 8.35e14,
    "NVIDIA H100": 9.89e14,
    "NVIDIA H200": 9.89e14,
}


def device_peak(device_kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of one device, or None where it is not known (CPUs among them)."""
    return next((peak for name, peak in PEAKS.items() if device_kind.startswith(name)), None)


def transformer_forward_flops(config: TransformerConfig, segment_lengths: np.ndarray, *, causal: bool) -> float:
    """Forward FLOPs of the blocks over segments of these lengths."""
    lengths = np.asarray(segment_lengths, np.float64)
    matrices = 4 * config.width**2 + (3 if config.feed_forward == "swiglu" else 2) * config.width * config.ff_width
    products = 2 * matrices * lengths.sum()
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
