"""The bundled voice beside three hours of Flite's: eight times the speech, on two CPU cores.

    ellav prepare bundled DATA
    ellav prepare flite:3000 FLITE
    ellav train more_speech.gar --data FLITE:0.8 --data DATA:0.2 --workdir W/gar
    ellav train more_speech.nar --data FLITE:0.8 --data DATA:0.2 --workdir W/nar

28 and 30 minutes on 2 CPU cores beside other work; what it reached: docs/more_speech.md.
"""

import dataclasses

from configs import prompts_small
from configs.experiment import Experiment


def gar() -> Experiment:
    """GAR of prompts_small, eight times as long: with eight times the speech it overfits no more, and wants less dropout."""
    return _longer(prompts_small.gar(), dropout=0.1, steps=2000)


def nar() -> Experiment:
    """NAR, layers 2 … 8; still far from converged when it ends."""
    return _longer(prompts_small.nar(), dropout=0.05, steps=1500)


def _longer(experiment: Experiment, dropout: float, steps: int) -> Experiment:
    transformer = dataclasses.replace(experiment.model.transformer, dropout=dropout)
    optimizer = dataclasses.replace(experiment.train.optimizer, warmup_steps=100)
    return dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.model, transformer=transformer),
        train=dataclasses.replace(
            experiment.train, steps=steps, log_every=50, evaluate_every=500, checkpoint_every=500, optimizer=optimizer
        ),
    )
