"""One process of a run over several: joins the others, reads a mixture's batches, prints what is in the global ones.

print_batches.py PROCESS PROCESSES PORT TENSOR NEXT_ROW BATCHES FOLDER. Lines `batch …` are checksums of a batch's arrays
that depend on the order of rows, computed over all processes' devices; `next_row …` is the state at the end.
"""

import sys
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp

from data_pipelines.loader import Batches, DataConfig, Rows, nar_rows, own_rows
from data_pipelines.mixture import MixedRows
from data_pipelines.records import Dataset
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.nar import NarConfig
from ellav_jax.sharding import MeshConfig, ShardingRules, global_batch, make_mesh


def mixture(folder: Path) -> MixedRows:
    """Two thirds and a third of the data sets folder/a and folder/b."""
    config = DataConfig(row_length=2560, batch_rows=8)

    def rows(name: str) -> Rows:
        return nar_rows(Dataset.open(folder / name), "train", config, LayoutConfig(), NarConfig())

    return MixedRows([rows("a"), rows("b")], [Fraction(2), Fraction(1)])


@jax.jit
def checksum(array: jax.Array) -> jax.Array:
    """uint32, of values and their places."""
    values = array.astype(jnp.uint32).reshape(-1)
    places = jnp.arange(values.size, dtype=jnp.uint32)
    return jnp.sum((values + 1) * (places * jnp.uint32(2654435761) + 1))


def main() -> None:
    process, processes, port, tensor, next_row, count = map(int, sys.argv[1:7])
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(f"localhost:{port}", processes, process)
    mesh = make_mesh(MeshConfig(tensor=tensor))
    rows = mixture(Path(sys.argv[7]))
    sharding = ShardingRules().of_batch(mesh, rows.config.batch_rows)
    own = own_rows(sharding, rows.config.batch_rows)
    assert len(own) == rows.config.batch_rows * tensor // processes
    batches = Batches(rows, next_row=next_row, own=own)
    for _ in range(count):
        arrays = global_batch(next(batches), sharding)
        print("batch", *(f"{name}:{int(checksum(array))}" for name, array in arrays.items()))
    print("next_row", batches.next_row)
    batches.close()


if __name__ == "__main__":
    main()
