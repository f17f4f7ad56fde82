"""One point of `ellav bench train`, measured in the process that this is called in."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental.multihost_utils import process_allgather

from configs.experiment import Experiment
from data_pipelines.mixture import MixedRows
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.hardware import device_peak
from ellav_jax.training.loop import train
from ellav_jax.training.run import Run
from ellav_jax.training.step import TrainState
from launch.assemble import make_run, split_rows
from launch.benchmarks.process import Found, peak_bytes
from launch.benchmarks.record import Measure, Point, environment
from launch.benchmarks.statistics import median
from launch.benchmarks.work import work_of
from launch.cpu_devices import use_cores
from launch.processes.distributed import ProcessGroup, connect
from launch.xla_flags import set_flags


@dataclasses.dataclass(frozen=True)
class StepRequest:
    """A point: an experiment on a data set.

    label: what tells it from the sweep's other points. folder: for temporary files. against_torch: beside PyTorch.
    devices: in all, None for what the machine has; processes: that share them.
    """

    name: str
    experiment: Experiment
    label: dict[str, Any]
    data: Path
    folder: Path
    steps: int
    blocks: int
    warmup: int
    against_torch: bool
    devices: int | None
    processes: int

    @property
    def title(self) -> str:
        """For people."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.label.items())])


def measure_step(request: StepRequest, *group: Any) -> Found:
    """Measures the point; group: the fields of the `ProcessGroup` that this process belongs to. Raises InputError."""
    # How parameters begin changes no time, and synthetic codes have no codebooks.
    model = dataclasses.replace(request.experiment.model, codebook_init=False)
    experiment = dataclasses.replace(request.experiment, model=model)
    set_flags()
    if request.devices is None:
        use_cores(experiment.mesh, experiment.data.batch_rows // experiment.train.accumulate)
    connect(ProcessGroup(*group))
    devices = jax.devices()
    if request.devices not in (None, len(devices)):
        raise InputError(
            f"bench train --devices {request.devices}: jax finds {len(devices)} × {devices[0].device_kind}"
        )
    if request.against_torch:
        _check_comparable(experiment)
    dataset = Dataset.open(request.data)
    rows = MixedRows([split_rows(experiment, dataset, "train")])
    run = make_run(experiment, [dataset], rows)
    with _workdir(request.folder, group) as workdir:
        point = _measure_loop(request, experiment, run, workdir)
    if request.against_torch:
        # torch is an extra of its own.
        try:
            from launch.benchmarks.step_against import measure_against_torch
        except ModuleNotFoundError as error:
            raise InputError(
                f"bench train --against torch wants {error.name}: pip install 'ellav-jax[torch]'"
            ) from None
        num_phones = len(dataset.frontend.phones)
        opponent = measure_against_torch(experiment, run, num_phones, request.steps, request.blocks)
        point = dataclasses.replace(
            point,
            measures=point.measures | opponent.measures,
            ratios=opponent.ratios,
            figures=point.figures | opponent.figures,
            notes=opponent.notes,
        )
    packages = ["jax", "jaxlib", "flax", "numpy"] + ["torch"] * request.against_torch
    return point, environment(packages, devices)


def _check_comparable(experiment: Experiment) -> None:
    dtype = experiment.model.transformer.dtype
    if dtype != "float32" or jax.default_backend() != "cpu":
        raise InputError(
            f"bench train --against torch compares float32 in one process on a CPU; this is {dtype} on "
            f"{jax.default_backend()}; give --dtype float32 (and JAX_PLATFORMS=cpu)"
        )


@contextlib.contextmanager
def _workdir(folder: Path, group: Sequence[Any]) -> Iterator[Path]:
    """A fresh folder, the same one for the processes of a group."""
    if group:
        shared = folder / f"work-{ProcessGroup(*group).coordinator.rpartition(':')[2]}"
        shared.mkdir(exist_ok=True)
        yield shared
    else:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield Path(own)


class _Enough(Exception):
    """Ends the loop where everything is measured."""


class _ByTurns:
    """A training step that times the loop which calls it, and by turns itself without the loop."""

    def __init__(self, run: Run, request: StepRequest):
        self._run, self._steps, self._blocks = run, request.steps, request.blocks
        self._not_counted = 1 + request.warmup
        self._batches: list[dict[str, jax.Array]] = []
        self._since = 0.0
        self.first_seconds = 0.0
        self.loop: list[float] = []
        self.bare: list[float] = []
        self.seen: list[dict[str, jax.Array]] = []

    def train(
        self, state: TrainState, batch: dict[str, jax.Array], seed: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """The step; at the end of each block of the loop's it does the block's batches again."""
        begin = time.perf_counter()
        state, metrics = self._run.steps.train(state, batch, seed)
        if self._not_counted:
            jax.block_until_ready(state)
            self.first_seconds = self.first_seconds or time.perf_counter() - begin
            self._not_counted -= 1
            self._since = time.perf_counter()
            return state, metrics
        self._batches.append(batch)
        if len(self._batches) == self._steps:
            jax.block_until_ready(state)
            self.loop.append((time.perf_counter() - self._since) / self._steps)
            begin = time.perf_counter()
            for one in self._batches:
                state, metrics = self._run.steps.train(state, one, seed)
            jax.block_until_ready(state)
            self.bare.append((time.perf_counter() - begin) / self._steps)
            self.seen += self._batches
            self._batches = []
            if len(self.bare) == self._blocks:
                raise _Enough
            self._since = time.perf_counter()
        return state, metrics


def _measure_loop(request: StepRequest, experiment: Experiment, run: Run, workdir: Path) -> Point:
    turns = _ByTurns(run, request)
    # Each block has its log line; nothing else that a run does every so often comes about.
    config = dataclasses.replace(
        experiment.train,
        steps=1 << 30,
        log_every=min(experiment.train.log_every, request.steps),
        evaluate_every=1 << 30,
        checkpoint_every=1 << 30,
    )
    quiet = dataclasses.replace(run, steps=dataclasses.replace(run.steps, train=turns.train), say=lambda line: None)
    with contextlib.suppress(_Enough):
        train(config, quiet, workdir)
    devices = run.batch_sharding.mesh.devices
    figures = {
        "compile_seconds": turns.first_seconds - median([turns.bare]),
        "peak_bytes": peak_bytes(jax.local_devices()),
    }
    # Behind the peak: gathered from all processes, as each has its own rows alone.
    several = jax.process_count() > 1
    seen = [process_allgather(batch, tiled=True) if several else jax.device_get(batch) for batch in turns.seen]
    work, real_share = work_of(seen, run)
    peak = device_peak(devices.flat[0].device_kind)
    mesh = dict(run.batch_sharding.mesh.shape)
    return Point(
        settings={
            "experiment": request.name,
            **experiment.to_json(),
            "devices": devices.size,
            "processes": jax.process_count(),
            "lies_on": mesh,
        },
        label=request.label,
        measures={"loop": Measure([turns.loop], work), "bare step": Measure([turns.bare], work)},
        figures=figures | {"real_share": real_share, "peak_flops": peak and peak * devices.size},
    )
