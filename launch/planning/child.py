"""Compiles an experiment's training step for a topology, in a process of its own (`python -m launch.planning.child`).

The environment that the compiler wants has to be there before jax is imported, and a compiler that aborts must not take
its caller down. In: JSON on stdin, `{"experiment": …, "topology": "v5p-256"}`. Out: JSON on the last line of stdout.
"""

import dataclasses
import json
import subprocess
import sys
import time
from typing import Any

import jax

from configs.experiment import Experiment, from_json
from data_pipelines.loader import empty_row
from ellav_jax.errors import InputError, RunError
from ellav_jax.hardware import find_topology
from ellav_jax.planning.aot import CompiledStep, DoesNotFit, compile_step, compiling_environment, topology_devices
from ellav_jax.planning.program_text import Collective
from ellav_jax.sharding import make_mesh
from launch.assemble import steps_of
from launch.planning.content import define


def compile_elsewhere(experiment: Experiment, topology: str) -> CompiledStep:
    """Compiles the step in a child process. Raises DoesNotFit, InputError as the child does, RunError if it dies."""
    request = json.dumps({"experiment": experiment.to_json(), "topology": topology})
    command = [sys.executable, "-m", "launch.planning.child"]
    done = subprocess.run(command, input=request, capture_output=True, text=True, env=compiling_environment())
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RunError(f"the compiler ended with status {done.returncode}: {said[-1] if said else 'it said nothing'}")
    answer = json.loads(lines[-1])
    if "does_not_fit" in answer:
        raise DoesNotFit(*answer["does_not_fit"])
    if "input_error" in answer:
        raise InputError(answer["input_error"])
    collectives = tuple(Collective(**one) for one in answer.pop("collectives"))
    return CompiledStep(collectives=collectives, **answer)


def _compile(request: dict[str, Any]) -> CompiledStep:
    experiment = from_json(request["experiment"], "the request")
    mesh = make_mesh(experiment.mesh, topology_devices(find_topology(request["topology"])))
    rows = experiment.data.batch_rows
    start = time.perf_counter()
    steps = steps_of(experiment, define(experiment), mesh)
    sharding = experiment.sharding.of_batch(mesh, rows)
    batch = {
        name: jax.ShapeDtypeStruct((rows, *array.shape), array.dtype, sharding=sharding)
        for name, array in empty_row(experiment.kind, experiment.data.row_length).items()
    }
    lowered = steps.lower(batch)
    return compile_step(lowered, time.perf_counter() - start)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return dataclasses.asdict(_compile(request))
    except DoesNotFit as error:
        return {"does_not_fit": [error.needed, error.available]}
    except InputError as error:
        return {"input_error": str(error)}


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
