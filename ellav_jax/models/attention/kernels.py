"""What the kernels share: the platform they are traced for, what they keep for the backward pass, what fits them."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

from ellav_jax.errors import InputError

RESIDUALS = "attention_residuals"
"""Name, for remat policies, of what attention's backward pass wants kept: its output and what a kernel saves beside it."""

ROW_MULTIPLE = 128
"""Rows of the TPU's and the GPU's kernels are a multiple of this: the lanes of a TPU's registers, Triton's block."""

_INTERPRETED = contextvars.ContextVar("interpreted_kernels", default=False)


@contextlib.contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Kernels traced within are interpreted, slowly, on whatever platform; so that CPUs can test them."""
    token = _INTERPRETED.set(True)
    try:
        yield
    finally:
        _INTERPRETED.reset(token)


def interpreted() -> bool:
    """Whether `interpreted_kernels` is in force."""
    return _INTERPRETED.get()


def traced_platform() -> str:
    """Platform that the program being traced is for: "cpu", "tpu", "gpu".

    That of the ambient mesh's devices, which need not be this machine's (a program may be compiled for a TPU on a CPU);
    without a mesh the default one.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return (
        jax.default_backend()
        if device is None
        else {"cuda": "gpu", "rocm": "gpu"}.get(device.platform, device.platform)
    )


def traced_vector_memory() -> int:
    """Bytes of vector memory of a core of the TPU that the program being traced is for.

    By generation, as libtpu 0.0.42.1 reports when a kernel wants more: 16 MiB up to v4, 64 MiB and more since.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    kind = jax.devices()[0].device_kind if device is None else device.device_kind
    return (16 << 20) if kind.startswith(("TPU v2", "TPU v3", "TPU v4")) else (64 << 20)


def check_row(backend: str, length: int) -> None:
    """Raises InputError when rows of this length don't fit the kernels' blocks."""
    if length % ROW_MULTIPLE:
        raise InputError(
            f"attention {backend}: rows of {length} positions; its kernel takes multiples of {ROW_MULTIPLE}: change the row "
            "length, or use attention xla"
        )
