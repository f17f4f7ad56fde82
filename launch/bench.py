"""`ellav bench codec`: throughput, measured in a way that anyone can repeat."""

from collections.abc import Sequence

import tyro

from ellav_jax.errors import InputError
from launch import bench_codec

BENCHMARKS = {"codec": bench_codec.run}


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
        tyro.cli(BENCHMARKS[name], args=rest, prog=f"ellav bench {name}")
