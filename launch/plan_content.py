"""What a training step holds, without a data set: rows packed from utterances shaped as LibriSpeech's."""

import dataclasses
from functools import cache

import numpy as np

from configs.experiment import Experiment
from configs.trained import define_model
from data_pipelines.packing import PackingPlan
from data_pipelines.synthetic import FRAME_RATE, sample_lengths
from ellav_jax.flops import gar_step_flops, nar_step_flops
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.hardware import Topology
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.nar import NUM_STAGES
from ellav_jax.planning.roofline import Workload
from ellav_jax.sharding import mesh_shape
from ellav_jax.vocabulary import NUM_CODES, NUM_OUTPUTS

UTTERANCES = 20_000
"""Utterances that the means of a step are taken over."""


@dataclasses.dataclass(frozen=True)
class Content:
    """Means over the steps of an epoch. model_flops: of a step on all devices. left_out: share longer than a row."""

    positions: int
    fill: float
    audio_seconds: float
    mean_segment: float
    left_out: float
    model_flops: float


def step_content(experiment: Experiment) -> Content:
    """What a step of the experiment holds if its data has the lengths of `sample_lengths`.

    The NAR's prompts, which bear no loss, are taken as long as they are on average, half their bound.
    """
    phones_N, frames_N = sample_lengths(UTTERANCES)
    model, data, gar = experiment.model, experiment.data, experiment.kind == "gar"
    lengths_N = np.asarray(experiment.layout.num_inputs(phones_N, frames_N) if gar else phones_N + frames_N)
    plan = PackingPlan(lengths_N, data.row_length, data.seed)
    fits_N = lengths_N <= data.row_length
    phones_P, frames_P = phones_N[fits_N], frames_N[fits_N]
    if gar:
        targets = np.sum(experiment.layout.num_targets(phones_P, frames_P))
    else:
        targets = np.sum(np.maximum(frames_P - model.max_prompt_seconds * FRAME_RATE / 2, 0))
    flops = (gar_step_flops if gar else nar_step_flops)(model.transformer, lengths_N[fits_N], int(targets))
    steps = plan.rows_per_epoch / data.batch_rows
    return Content(
        positions=data.batch_rows * data.row_length,
        fill=plan.fill,
        audio_seconds=float(frames_P.sum()) / FRAME_RATE / steps,
        mean_segment=float(lengths_N[fits_N].mean()),
        left_out=1 - float(fits_N.mean()),
        model_flops=float(flops) / steps,
    )


@cache
def num_phones() -> int:
    """Phones of the frontend that `ellav prepare` uses when none is given."""
    return len(default_frontend().phones)


def define(experiment: Experiment) -> ModelDefinition:
    """The experiment's model over those phones."""
    return define_model(experiment, num_phones())


def workload_of(experiment: Experiment, topology: Topology) -> Workload:
    """The experiment's step in numbers, on the mesh that it asks for. Raises InputError where the mesh does not fit."""
    data, fsdp, tensor = mesh_shape(experiment.mesh, topology.name, topology.num_devices, topology.slices)
    gar = experiment.kind == "gar"
    return Workload(
        transformer=experiment.model.transformer,
        causal=gar,
        # Every stage's head runs over all of a NAR's rows.
        outputs=NUM_OUTPUTS if gar else NUM_STAGES * NUM_CODES,
        num_parameters=define(experiment).num_parameters,
        rows=experiment.data.batch_rows,
        row_length=experiment.data.row_length,
        data=data,
        fsdp=fsdp,
        tensor=tensor,
    )
