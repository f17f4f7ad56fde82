"""EnCodec 24 kHz: waveforms to codes [T, 8] at 75 frames a second, and back. Importing this imports no JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ellav_jax.codec.codec import Codec
    from ellav_jax.codec.package_backend import PackageCodec
    from ellav_jax.codec.weights import CodecWeights


NAMES = ("bundled", "encodec")
"""Codecs by name: a file or folder that is called so doesn't stand in their place."""


def load_codec(spec: str = "bundled") -> "Codec | PackageCodec":
    """The codec that `spec` names; all have the same interface (see `ellav_jax.codec.codec.Codec`).

    On JAX: `bundled` (the small model that comes with this package), a FILE.safetensors or a folder with
    model.safetensors (names of the encodec package or of transformers), the encodec package's FILE.th, or a Hugging
    Face id such as `facebook/encodec_24khz`. On torch: `encodec` (the encodec package with its official weights,
    fetched once), or `encodec:` before any of the above. Raises InputError when the weights are not there or don't fit.
    """
    weights = load_codec_weights(spec)
    if spec.partition(":")[0] == "encodec":
        from ellav_jax.codec.package_backend import PackageCodec

        return PackageCodec(weights)
    import jax

    from ellav_jax.codec.codec import Codec

    size = {"lanes": 4, "chunk": 32} if jax.default_backend() == "cpu" else {"lanes": 16, "chunk": 300}
    return Codec(weights, **size)


def load_device_codec(spec: str) -> "Codec | None":
    """The codec that `spec` names where it runs on this process's accelerator; None where there is none (or in torch)."""
    import jax

    return None if jax.default_backend() == "cpu" or spec.partition(":")[0] == "encodec" else load_codec(spec)


def load_codec_weights(spec: str) -> "CodecWeights":
    """The weights of the codec that `spec` names, as for `load_codec`; they keep that name. Raises InputError."""
    from ellav_jax.codec.weights import read_weights

    backend, separator, rest = spec.partition(":")
    if backend != "encodec":
        return read_weights(spec)
    if not separator:
        from ellav_jax.codec.package_backend import fetch_official_weights

        rest = str(fetch_official_weights())
    return read_weights(rest, name=spec)
