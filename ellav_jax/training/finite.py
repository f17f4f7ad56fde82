"""NaN and infinity end a run, with what is needed to find their cause."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ellav_jax.errors import RunError
from ellav_jax.files import write_json
from ellav_jax.models.definition import Params

_WATCHED = ("loss", "grad_norm")


def check_finite(
    metrics: Sequence[Mapping[str, jax.Array]], step: int, params: Params, rows: tuple[int, int], workdir: Path
) -> None:
    """Looks at the metrics of the last steps, of which `step` is the last; waits until they are computed.

    rows: the next row to draw, and rows a batch. Where loss or gradient norm is NaN or infinite, `workdir` gets
    nonfinite-STEP.json (metrics of these steps, the rows of the bad one, parameters that hold such values now), and
    RunError is raised. All processes call it, since all hold a part of the parameters.
    """
    values = [{name: float(one[name]) for name in _WATCHED} for one in jax.device_get(list(metrics))]
    bad = [i for i, one in enumerate(values) if not np.isfinite(list(one.values())).all()]
    if not bad:
        return
    steps = range(step - len(values) + 1, step + 1)
    first, (next_row, batch_rows) = steps[bad[0]], rows
    begin = next_row - (step - first + 1) * batch_rows
    path = workdir / f"nonfinite-{first}.json"
    counts = {
        jax.tree_util.keystr(name): int(jnp.sum(~jnp.isfinite(leaf)))
        for name, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    if jax.process_index() == 0:
        description = {
            "step": first,
            "rows": [begin, begin + batch_rows],
            "steps": [
                {"step": at} | {name: repr(one[name]) for name in one} for at, one in zip(steps, values, strict=True)
            ],
            "nonfinite_parameters": {name: count for name, count in counts.items() if count},
        }
        write_json(path, description)
    found = ", ".join(f"{name} {values[bad[0]][name]}" for name in _WATCHED)
    raise RunError(
        f"step {first}: {found}; what led to it is in {path}. The checkpoints are from before: continue from one with a "
        "lower learning rate, or look at the rows that are named there"
    )
