"""A scale-up of about a billion parameters, on Libriheavy (50,000 hours); heads of 128 fill a TPU's matrix unit.

    ellav prepare manifest:libriheavy_cuts_large.jsonl.gz DATA --codec facebook/encodec_24khz
    ellav train libriheavy_1b.gar --data DATA --workdir W/gar --distributed
    ellav plan libriheavy_1b.gar --topology v5p-256

For 64 devices or more. Not the paper's: Llama's blocks, WSD, a moving average of the weights. Time and held-out figures:
not yet run.
"""

from configs.experiment import Experiment
from data_pipelines.loader import DataConfig
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.nar import NarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.sharding import MeshConfig
from ellav_jax.training.cross_entropy import LossConfig
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.run import TrainConfig

TRANSFORMER = TransformerConfig.llama(
    num_layers=20, num_heads=16, width=2048, ff_width=5504, dropout=0.0, remat="attention"
)
LAYOUT = LayoutConfig(local_advance=3)
DATA = DataConfig(row_length=4096, batch_rows=256)
# Parameters, moments and moving average are 16 GB: in pieces over a host's 8 GPUs, or over 16 small TPUs.
MESH = MeshConfig(data=-1, fsdp=8, hardware=((r"(\d+x)?(v5e|v6e)-\d+", -1, 16, 1),))
TRAIN = TrainConfig(
    steps=200_000,
    log_every=50,
    evaluate_every=2000,
    checkpoint_every=1000,
    keep_checkpoints_every=20_000,
    optimizer=OptimizerConfig(peak_lr=4e-4, warmup_steps=4000, schedule="wsd", beta2=0.95, ema_decay=0.9999),
    loss=LossConfig(z_loss=1e-4),
)


def gar() -> Experiment:
    """GAR on the compact layout."""
    return Experiment(LAYOUT, GarConfig(TRANSFORMER), DATA, TRAIN, MESH)


def nar() -> Experiment:
    """NAR, layers 2 … 8."""
    return Experiment(LAYOUT, NarConfig(TRANSFORMER), DATA, TRAIN, MESH)
