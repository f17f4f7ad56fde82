"""The training step by turns with PyTorch's."""

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from configs.experiment import Experiment
from ellav_jax.sharding import global_batch
from ellav_jax.training.run import Run
from launch.benchmarks.record import Measure
from launch.benchmarks.timing import timed
from launch.benchmarks.twin import Twin, pad_sorted
from launch.benchmarks.work import work_of

_POOL = 4
"""Padded batches are made of the utterances of so many times the batches that are timed: sorting wants a choice."""
_ATTENTION = {"calls": "an attention call for each utterance", "mask": "one dense attention mask"}


@dataclasses.dataclass(frozen=True)
class AgainstTorch:
    """What measuring beside PyTorch adds to a point: see `launch.benchmarks.record.Point`."""

    measures: dict[str, Measure]
    ratios: dict[str, list[list[float]]]
    figures: dict[str, float]
    notes: dict[str, str]


def measure_against_torch(experiment: Experiment, run: Run, num_phones: int, steps: int, blocks: int) -> AgainstTorch:
    """Our bare step, the twin on the same packed batches and the twin on padded ones, `steps` steps each, `blocks` times."""
    number = steps * blocks
    with contextlib.closing(run.batches(0)) as source:
        pool = [next(source) for _ in range(_POOL * number)]
    packed = pool[::_POOL]
    by_length = pad_sorted(pool, experiment.kind, packed[0]["segment_ids"].size)
    # Evenly over all lengths, and short and long ones in each block.
    places = np.linspace(0, len(by_length) - 1, number).round().astype(int)
    padded = [by_length[place] for place in np.random.default_rng(0).permutation(places)]

    state = run.steps.init(jax.random.key(experiment.train.seed))
    twin = Twin(experiment, num_phones, jax.device_get(state["params"]))
    twin.tune(packed[0])
    resident = [global_batch(batch, run.batch_sharding) for batch in packed]
    twins = {"packed": [twin.packed(batch) for batch in packed], "padded": [twin.padded(batch) for batch in padded]}
    seed = np.uint32(experiment.train.seed)

    def ours(part: slice) -> None:
        nonlocal state
        for batch in resident[part]:
            state, _ = run.steps.train(state, batch, seed)
        jax.block_until_ready(state)

    def theirs(kind: str, part: slice) -> None:
        for batch in twins[kind][part]:
            twin.step(batch)

    work: dict[str, Callable[[slice], None]] = {
        "ours, beside torch": ours,
        "torch, packed": partial(theirs, "packed"),
        "torch, padded": partial(theirs, "padded"),
    }
    for function in work.values():  # not counted: compilation, caches
        function(slice(0, steps))
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for first in range(0, number, steps):
        for name, function in work.items():
            function(slice(first, first + 1))  # not counted: the other's threads go to sleep, its memory is handed back
            seconds[name].append(timed(partial(function, slice(first, first + steps))) / steps)
    done, _ = work_of(packed, run)
    done_padded, real_padded = work_of(padded, run)
    amounts = dict(zip(work, (done, done, done_padded), strict=True))

    def ratios(opponent: str, amount: str) -> list[list[float]]:
        """Our rate over the opponent's, of each pair of turns."""
        more = done[amount] / amounts[opponent][amount]
        pairs = zip(seconds["ours, beside torch"], seconds[opponent], strict=True)
        return [[more * theirs / ours for ours, theirs in pairs]]

    return AgainstTorch(
        measures={name: Measure([times], amounts[name], name.startswith("ours")) for name, times in seconds.items()},
        ratios={
            "positions/s over torch's on the same packed batches": ratios("torch, packed", "positions"),
            "audio-s/s over torch's on padded batches": ratios("torch, padded", "audio_seconds"),
        },
        figures={"real_share_padded": real_padded},
        notes={"torch": f"AdamW {twin.choice['optimizer']}; packed: {_ATTENTION[twin.choice['attention']]}"},
    )
