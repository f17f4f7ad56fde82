"""The model of configs/librispeech.py on a pod: a million positions a step, an eighth of the steps.

    ellav train librispeech_pod.gar --data DATA --workdir W/gar --distributed
    ellav plan librispeech_pod.gar --topology v5p-256

For 64 to 256 TPU devices, in one slice or several. Time and held-out figures: not yet run; docs/planning.md has what the
compiler says of it.
"""

import dataclasses

from configs import librispeech
from configs.experiment import Experiment
from ellav_jax.training.optimizer import OptimizerConfig

# 8 times the positions of a step and so √8 times its learning rate, over as much speech; the shorter warm-up is as long
# in speech.
TRAIN = dataclasses.replace(
    librispeech.TRAIN,
    steps=40_000,
    log_every=50,
    evaluate_every=1000,
    checkpoint_every=500,
    keep_checkpoints_every=5000,
    optimizer=OptimizerConfig(peak_lr=1.4e-3, warmup_steps=4000),
)


def gar() -> Experiment:
    """GAR: 256 rows of 4,096."""
    return _on_a_pod(librispeech.gar())


def nar() -> Experiment:
    """NAR: 256 rows of 4,096."""
    return _on_a_pod(librispeech.nar())


def valle() -> Experiment:
    """The baseline, VALL-E's AR."""
    return _on_a_pod(librispeech.valle())


def _on_a_pod(experiment: Experiment) -> Experiment:
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, batch_rows=256), train=TRAIN)
