"""The bundled speech (24 minutes, one voice) at a size that two CPU cores train in minutes. `make demo` runs gar and nar.

    ellav prepare bundled DATA
    ellav train prompts_small.gar --data DATA --workdir W

Time and held-out figures: README, "Figures"; the baseline and the ablations beside each other: docs/paper_in_small.md.
"""

import dataclasses

from configs.experiment import Experiment
from data_pipelines.loader import DataConfig
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.nar import NarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.run import TrainConfig

# CPUs gain nothing from bfloat16 and have memory for all activations.
TRANSFORMER = TransformerConfig.llama(
    num_layers=4, num_heads=4, width=256, ff_width=768, dropout=0.2, dtype="float32", remat="none"
)
DATA = DataConfig(row_length=1024, batch_rows=2)
TRAIN = TrainConfig(
    steps=240,
    log_every=20,
    evaluate_every=80,
    checkpoint_every=80,
    optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=30, schedule="cosine"),
)


def gar() -> Experiment:
    """GAR on the compact layout. So little speech wants more dropout than the usual 0.1; at 400 steps it overfits."""
    return Experiment(LayoutConfig(), GarConfig(TRANSFORMER, codebook_init=True), DATA, TRAIN)


def valle() -> Experiment:
    """VALL-E's AR: the same transformer without interleaving."""
    return _with(order="valle")


def paper_layout() -> Experiment:
    """The sequence as the paper writes it, EOP fed as a position of its own."""
    return _with(order="paper")


def no_global_advance() -> Experiment:
    """Ablation: no phones ahead of BOS."""
    return _with(global_advance=False)


def local_advance_3() -> Experiment:
    """Sweep: EOP and the next phone 3 frames ahead, 40 ms. A NAR for it: prompts_small.nar --layout.local-advance 3."""
    return _with(local_advance=3)


def local_advance_6() -> Experiment:
    """Sweep: 6 frames ahead, 80 ms, about a phone."""
    return _with(local_advance=6)


def nar() -> Experiment:
    """NAR, layers 2 … 8. It sees each layer in a seventh of its frames, underfits in this time, and wants little dropout."""
    transformer = dataclasses.replace(TRANSFORMER, dropout=0.05)
    train = dataclasses.replace(TRAIN, steps=320)
    return Experiment(LayoutConfig(), NarConfig(transformer, codebook_init=True), DATA, train)


def _with(**layout: object) -> Experiment:
    return dataclasses.replace(gar(), layout=LayoutConfig(**layout))
