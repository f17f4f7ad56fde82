"""EnCodec 24 kHz: waveforms to codes [T, 8] at 75 frames a second, and back. Importing this imports no JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ellav_jax.codec.codec import Codec
    from ellav_jax.codec.package_backend import PackageCodec


def load_codec(spec: str = "bundled") -> "Codec | PackageCodec":
    """The codec that `spec` names; all have the same interface (see `ellav_jax.codec.codec.Codec`).

    On JAX: `bundled` (the small model that comes with this package), a FILE.safetensors or a folder with
    model.safetensors (names of the encodec package or of transformers), the encodec package's FILE.th, or a Hugging
    Face id such as `facebook/encodec_24khz`. On torch: `encodec` (the encodec package with its official weights,
    fetched once), or `encodec:` before any of the above. Raises InputError when the weights are not there or don't fit.
    """
    from ellav_jax.codec.weights import read_weights

    backend, separator, rest = spec.partition(":")
    if backend != "encodec":
        import jax

        from ellav_jax.codec.codec import Codec

        size = {"lanes": 4, "chunk": 32} if jax.default_backend() == "cpu" else {"lanes": 16, "chunk": 300}
        return Codec(read_weights(spec), **size)
    from ellav_jax.codec.package_backend import PackageCodec, fetch_official_weights

    return PackageCodec(read_weights(rest if separator else str(fetch_official_weights()), name=spec))
