"""What this process runs: versions, and a digest of the source code."""

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib import metadata

from launch.cli import DISTRIBUTION, version
from launch.source_tree import SOURCE

FLOORS = ("ellav_jax", "data_pipelines", "configs", "launch")
# What computes, stores and feeds; and what jax finds accelerators by, one or none of which is installed.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_PLUGINS = ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin", "jax-rocm7-plugin")


def software(environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Everything that must be the same on all processes of a run; None: not installed, or not set."""
    versions = {name: installed(name) for name in (*PACKAGES, *_PLUGINS)}
    return {
        "python": platform.python_version(),
        DISTRIBUTION: version(),
        **versions,
        **{f"source code of {floor}": f"sha256 {_digest(floor)[:12]}" for floor in FLOORS},
        # Where one falls back to CPUs, the others wait for its accelerators.
        "JAX_PLATFORMS": environment.get("JAX_PLATFORMS"),
    }


def installed(name: str) -> str | None:
    """Version of an installed package; None where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _digest(floor: str) -> str:
    folder, digest = SOURCE / floor, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(text)}\n".encode() + text)
    return digest.hexdigest()
