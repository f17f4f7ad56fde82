"""LibriSpeech, 960 hours, at the paper's size: 12 layers of width 1024, 16 heads, feed-forward 4096.

    ellav prepare librispeech:LibriSpeech DATA --codec facebook/encodec_24khz
    ellav train librispeech.gar --data DATA --workdir W/gar
    ellav train librispeech.nar --data DATA --workdir W/nar

For 8 accelerators of 16 GB or more (`--distributed` where they are on several hosts). Time and held-out figures: not yet
run. `ellav plan librispeech.gar --topology v5e-8` estimates a step.

What is not the paper's, or not known to be, is said in the docstrings of the fields. Batches are those of VALL-E's
authors on 8 GPUs: 16,384 positions each for the GAR, 12,288 for the NAR.
"""

import dataclasses

from configs.experiment import Experiment
from data_pipelines.loader import DataConfig
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.nar import NarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.training.run import TrainConfig

TRANSFORMER = TransformerConfig.paper(num_layers=12, num_heads=16, width=1024, ff_width=4096, remat="attention")
# Unknown in the paper; chosen because half of a phone is about 3 frames. Ablations are below.
LAYOUT = LayoutConfig(local_advance=3)
TRAIN = TrainConfig(log_every=100, evaluate_every=5000, checkpoint_every=2000, keep_checkpoints_every=40_000)


def gar() -> Experiment:
    """GAR on the compact layout, which has the paper's targets in 10 % fewer positions."""
    return Experiment(LAYOUT, GarConfig(TRANSFORMER), DataConfig(row_length=4096, batch_rows=32), TRAIN)


def nar() -> Experiment:
    """NAR, layers 2 … 8."""
    return Experiment(LAYOUT, NarConfig(TRANSFORMER), DataConfig(row_length=4096, batch_rows=24), TRAIN)


def valle() -> Experiment:
    """The baseline, VALL-E's AR: the same transformer without interleaving."""
    return _with(order="valle", local_advance=0)


def paper_layout() -> Experiment:
    """The sequence as the paper writes it, EOP fed as a position of its own."""
    return _with(order="paper")


def no_global_advance() -> Experiment:
    """Ablation: no phones ahead of BOS, so that the model knows the sentence up to the current phone alone."""
    return _with(global_advance=False)


def local_advance_0() -> Experiment:
    """Ablation: EOP and the next phone at the aligned boundary. A NAR for it: librispeech.nar --layout.local-advance 0."""
    return _with(local_advance=0)


def local_advance_6() -> Experiment:
    """Sweep: about a phone ahead; 80 ms."""
    return _with(local_advance=6)


def local_advance_12() -> Experiment:
    """Sweep: about two phones ahead, where reproductions found fewer errors; 160 ms."""
    return _with(local_advance=12)


def _with(**layout: object) -> Experiment:
    return dataclasses.replace(gar(), layout=dataclasses.replace(LAYOUT, **layout))
