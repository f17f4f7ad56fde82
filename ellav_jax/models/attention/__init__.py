"""Attention over packed rows: one call, several ways of computing it.

| backend | runs on | what it does |
|---|---|---|
| `xla` | anything | scores of a block of queries and all keys; other segments' keys are read, then masked |
| `segments` | anything, made for CPUs | visits only the blocks of keys that a block of queries can see; keeps no scores |
| `pallas_tpu` | TPU | Pallas kernel that visits only the blocks a segment reaches; keeps no scores |
| `splash` | TPU | Pallas kernel (splash attention), keeps no scores |
| `pallas_gpu` | GPU | Pallas kernel (Triton), keeps no scores |
| `cudnn` | nothing yet | can't tell segments apart: refused, see `backends.py` |
"""

from ellav_jax.models.attention.backends import BACKENDS, attend, choose_backend
from ellav_jax.models.attention.cache import attend_cache
from ellav_jax.models.attention.kernels import RESIDUALS

__all__ = ["BACKENDS", "RESIDUALS", "attend", "attend_cache", "choose_backend"]
