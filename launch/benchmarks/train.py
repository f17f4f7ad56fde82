"""`ellav bench train`: the speed of the training step and of the loop around it, swept, scaled, alone or against PyTorch."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from configs.experiment import Experiment
from data_pipelines.records import Dataset
from data_pipelines.synthetic import write_synthetic
from ellav_jax.errors import InputError
from launch.benchmarks.options import whole_numbers
from launch.benchmarks.points import Chosen, StepOptions, points, with_rows
from launch.benchmarks.process import Task, measure
from launch.benchmarks.record import Record
from launch.benchmarks.step import StepRequest, measure_step
from launch.benchmarks.table import report

SYNTHETIC_UTTERANCES = 1000


def run(
    options: Annotated[StepOptions, arg(name="")] = StepOptions(),
    data: Path | None = None,
    against: Literal["none", "torch"] = "none",
    steps: int = 5,
    blocks: int = 7,
    warmup: int = 2,
    runs: int = 1,
    devices: Annotated[str | None, arg(metavar="N")] = None,
    scaling: Literal["weak", "strong"] = "weak",
    processes: int = 1,
    json: Path | None = None,
) -> Record:
    """Times the training step of experiments and the loop around it, prints a table, returns (and writes) the record.

    Each point is measured in a fresh process: the first step compiles, `warmup` steps more are not counted, then the loop
    runs as `ellav train` does, without evaluation and checkpoints, for `steps` steps, and the bare step does the same
    batches again, lying on the devices; so on by turns, `blocks` times. runs: fresh processes a point, all points by turns.

    data: a data set; without one, synthetic utterances of LibriSpeech's lengths (data_pipelines/synthetic.py).
    devices: how many, with commas between several numbers: the first N GPUs, or N virtual devices of a CPU. Without it,
    all that `ellav train` would use. scaling: weak gives each device a batch's rows, strong divides them. processes: among
    which the devices are divided, on this machine.

    against torch: the plain PyTorch twin (ellav_jax/export/torch_modules.py; eager, float32, all cores, fused or foreach
    AdamW, one attention call for each utterance or one dense mask, whatever is faster), by turns with ours. First on the
    same packed batches; then on padded ones: the same utterances, sorted by length, as many positions a batch. Its
    batches lie ready as tensors. Each turn begins with a step that isn't counted. Threads that wait for each other lose
    more than others where the machine is busy, and PyTorch's do: ratios want a machine that does nothing else, so the
    share that other processes took is printed. Raises InputError.
    """
    for name, value, least in (
        *(("steps", steps, 1), ("blocks", blocks, 1), ("warmup", warmup, 0)),
        *(("runs", runs, 1), ("processes", processes, 1)),
    ):
        if value < least:
            raise InputError(f"bench train: {name} is {value}; expected {least} or more")
    counts = [None] if devices is None else whole_numbers("devices", devices)
    if processes > 1 and any(count is None or count % processes for count in counts):
        raise InputError(f"bench train: --devices {devices} does not divide among --processes {processes}")
    if against == "torch" and devices is not None:
        raise InputError("bench train --against torch compares all cores with all cores; leave out --devices")
    with tempfile.TemporaryDirectory() as folder:
        requests = [
            StepRequest(
                one.name,
                _scaled(one, count, scaling),
                one.label | ({"devices": count} if len(counts) > 1 else {}),
                Path(folder) / "data" if data is None else data,
                Path(folder),
                steps,
                blocks,
                warmup,
                against == "torch",
                count,
                processes,
            )
            for one in points(options)
            for count in counts
        ]
        tasks = [Task(one.title, measure_step, (one,), processes, one.devices) for one in requests]
        if data is None:
            write_synthetic(Path(folder) / "data", SYNTHETIC_UTTERANCES)
        else:
            Dataset.open(data)  # what is wrong with it is told now
        found, environment = measure(tasks, runs)
    protocol = {"steps": steps, "blocks": blocks, "warmup": warmup, "runs": runs, "against": against}
    if devices is not None:
        protocol["scaling"] = scaling
    protocol["data"] = f"{SYNTHETIC_UTTERANCES:,} synthetic utterances" if data is None else str(data)
    return report(Record("train", protocol, environment, found), json)


def _scaled(chosen: Chosen, devices: int | None, scaling: str) -> Experiment:
    """The point's experiment for so many devices."""
    if devices is None or scaling == "strong":
        return chosen.experiment
    return with_rows(chosen.experiment, chosen.experiment.data.batch_rows * devices)
