"""How each experiment lies on each machine, against what is written down: `python tests/configs/test_golden_shardings.py`
writes it anew, for a change that is meant and whose difference is read."""

import json
import math
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from configs.experiment import find_experiment, list_experiments
from configs.trained import define_model
from ellav_jax.errors import InputError
from ellav_jax.hardware import find_topology
from ellav_jax.sharding import MESH_AXES, mesh_shape
from launch.assemble import steps_of

GOLDEN = Path(__file__).with_name("golden")
MACHINES = ("cpu-1", "h100-8", "v5e-8", "v5e-256", "v6e-256", "v5p-256", "2xv5p-256")


def _devices(machine):
    if machine[0] == "v" or "x" in machine:
        topology = find_topology(machine)
        return topology.num_devices, topology.slices
    return int(machine.rpartition("-")[2]), 1


def _describe(experiment, machine):
    """Mesh, batch, and `dtype[shape] spec → shape of a device's piece` of each array of the training state."""
    try:
        shape = mesh_shape(experiment.mesh, machine, *_devices(machine))
        mesh = AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3)
        steps = steps_of(experiment, define_model(experiment, 70), mesh)
    except InputError as error:
        return str(error)
    state = {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            f"{leaf.dtype}{list(leaf.shape)} {tuple(leaf.sharding.spec)} → {list(leaf.sharding.shard_shape(leaf.shape))}"
        )
        for path, leaf in jax.tree.leaves_with_path(steps.abstract)
    }
    params = {name.removeprefix("params."): line for name, line in state.items() if name.startswith("params.")}

    def follows(name, line):
        return any(name.endswith("." + param) and line == params[param] for param in params)

    apart = {name: line for name, line in state.items() if name not in params and not follows(name, line)}
    rows = experiment.data.batch_rows
    batch = experiment.sharding.of_batch(mesh, rows)
    return {
        "mesh": dict(zip(MESH_AXES, shape, strict=True)),
        "batch": f"{rows} rows {tuple(batch.spec)} → {batch.shard_shape((rows,))[0]}",
        "parameters": params,
        "state that does not lie as its parameter": apart,
        "parameters of a device": sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(steps.abstract["params"])
        ),
    }


def _table(name):
    experiment = find_experiment(name)
    return {machine: _describe(experiment, machine) for machine in MACHINES}


@pytest.mark.parametrize("name", list_experiments())
def test_an_experiment_lies_on_each_machine_as_written_down(name):
    written = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert _table(name) == written


def test_nothing_is_written_down_of_experiments_that_are_gone():
    assert {path.stem for path in GOLDEN.iterdir()} == set(list_experiments())


if __name__ == "__main__":
    for name in list_experiments():
        text = json.dumps(_table(name), indent=1, ensure_ascii=False)
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
