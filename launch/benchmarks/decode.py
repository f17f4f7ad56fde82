"""`ellav bench decode`: how fast the GAR decodes, alone or against PyTorch."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ellav_jax.errors import InputError
from launch.benchmarks.decoding import DecodeRequest, measure_decoding
from launch.benchmarks.options import whole_numbers
from launch.benchmarks.points import ModelOptions, points
from launch.benchmarks.process import Task, measure
from launch.benchmarks.record import Record
from launch.benchmarks.table import report


def run(
    options: Annotated[ModelOptions, arg(name="")] = ModelOptions(),
    batch: Annotated[str, arg(metavar="SENTENCES")] = "1,8",
    seconds: float = 5.0,
    repetitions: int = 7,
    runs: int = 1,
    against: Literal["none", "torch"] = "none",
    json: Path | None = None,
) -> Record:
    """Decodes layer 1 of `seconds` of speech behind a prompt of 3 s, greedily, prints a table, returns (and writes) the
    record.

    batch: sentences at a time, with commas between several numbers. Weights are random and the durations of all phones are
    given, so that everything that is compared makes the same calls. Prefix included; one pass that compiles is not
    counted. runs: fresh processes a point, all points by turns.

    against torch: the plain twin (ellav_jax/export/torch_modules.py; eager, same weights) and, for the llama preset,
    `transformers`' LlamaForCausalLM with a static cache, each with one thread and with all, by turns with ours; the ratio
    is that to the fastest of them. float32. RTF: the real-time factor of each row. Raises InputError.
    """
    if seconds <= 0 or repetitions < 1 or runs < 1:
        raise InputError(f"bench decode: {seconds} s, {repetitions} repetitions, {runs} runs; expected above 0 of each")
    sizes = whole_numbers("batch", batch)
    tasks = []
    for one in points(options):
        layout = one.experiment.layout
        if one.experiment.kind != "gar":
            raise InputError(f"bench decode: {one.name} is no GAR; it is what decodes call by call")
        if against == "torch" and (not layout.interleaved or layout.eop_input or layout.local_advance):
            raise InputError(
                f"bench decode --against torch compares the compact layout without local advance; {one.name} has "
                f"{layout.order} with {layout.local_advance}"
            )
        for size in sizes:
            label = one.label | ({"batch": size} if len(sizes) > 1 else {})
            request = DecodeRequest(one.name, one.experiment, label, size, seconds, repetitions, against == "torch")
            tasks.append(Task(request.title, measure_decoding, (request,)))
    found, environment = measure(tasks, runs)
    protocol = {"seconds": seconds, "repetitions": repetitions, "runs": runs, "against": against}
    return report(Record("decode", protocol, environment, found), json)
