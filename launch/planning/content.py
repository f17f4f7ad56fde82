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
from ellav_jax.models.attention.kernels import ROW_MULTIPLE
from ellav_jax.models.attention.pallas_tpu import block_of
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.nar import NUM_STAGES
from ellav_jax.planning.roofline import Workload
from ellav_jax.sharding import mesh_shape
from ellav_jax.vocabulary import NUM_CODES, NUM_OUTPUTS

UTTERANCES = 20_000
"""Utterances that the means of a step are taken over."""
_ROWS = 500
"""Rows that the attention kernel's visits are counted in."""


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
    lengths_N = _lengths(experiment)
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


def _lengths(experiment: Experiment) -> np.ndarray:
    """Positions that each utterance takes in a row, [N]."""
    phones_N, frames_N = sample_lengths(UTTERANCES)
    gar = experiment.kind == "gar"
    return np.asarray(experiment.layout.num_inputs(phones_N, frames_N) if gar else phones_N + frames_N)


def visited_share(experiment: Experiment) -> float:
    """Share of a row's square that lies in blocks which the TPU's attention kernel visits, a mean over packed rows.

    Blocks of queries visit those of keys from where their first query's segment begins to where their last one's ends
    (causal: to themselves). Rows that no kernel takes count whole.
    """
    length, causal = experiment.data.row_length, experiment.kind == "gar"
    if length % ROW_MULTIPLE:
        return 1.0
    block = block_of(length)
    plan = PackingPlan(_lengths(experiment), length, experiment.data.seed)
    visits, rows = 0, min(_ROWS, plan.rows_per_epoch)
    first_K = np.arange(0, length, block)
    for row in range(rows):
        ends_S = np.cumsum(plan.lengths_N[plan.row(row)[1]])
        # Behind the last utterance padding is a segment of its own.
        edges_S = np.concatenate([[0], ends_S, [length]])
        starts_K = edges_S[np.searchsorted(ends_S, first_K, side="right")]
        last_K = first_K + block - 1
        stops_K = last_K + 1 if causal else edges_S[np.searchsorted(ends_S, last_K, side="right") + 1]
        visits += int(np.sum(-(-stops_K // block) - starts_K // block))
    return visits * block**2 / (rows * length**2)


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
        visited=visited_share(experiment),
    )
