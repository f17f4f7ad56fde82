"""`ellav bench train|decode|codec|data|compare|scaling`: throughput, measured in a way that anyone can repeat."""

import importlib
from collections.abc import Sequence

import tyro

from ellav_jax.errors import InputError

BENCHMARKS = {
    "train": "launch.benchmarks.train",
    "decode": "launch.benchmarks.decode",
    "codec": "launch.benchmarks.codec",
    "data": "launch.benchmarks.data",
    "compare": "launch.benchmarks.compare",
    "scaling": "launch.benchmarks.scaling",
}
"""Module of each; its `run` takes the options and says what they are."""


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav bench WHAT [--OPTION VALUE …]`. Raises InputError for an unknown WHAT."""
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(
            f"usage: ellav bench {'|'.join(BENCHMARKS)} [--OPTION VALUE …]\n\nellav bench WHAT --help lists the options."
        )
    elif name not in BENCHMARKS:
        raise InputError(f"ellav bench: unknown benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    else:
        # Imported only now: what measures memory should not begin with the other's libraries.
        tyro.cli(importlib.import_module(BENCHMARKS[name]).run, args=rest, prog=f"ellav bench {name}")
