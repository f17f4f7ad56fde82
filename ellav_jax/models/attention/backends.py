"""The one call, and which backend serves it where."""

import jax

from ellav_jax.errors import InputError
from ellav_jax.models.attention.kernels import interpreted, traced_platform, traced_vector_memory
from ellav_jax.models.attention.pallas_gpu import attend_pallas_gpu
from ellav_jax.models.attention.pallas_tpu import attend_pallas_tpu, held_bytes
from ellav_jax.models.attention.segments import attend_segments
from ellav_jax.models.attention.splash import attend_splash
from ellav_jax.models.attention.xla import attend_xla
from ellav_jax.sharding import per_shard

BACKENDS = ("xla", "segments", "pallas_tpu", "splash", "pallas_gpu", "cudnn")
"""All names that `attend` knows beside "auto"."""

_AUTO = {"cpu": "segments", "tpu": "pallas_tpu", "gpu": "pallas_gpu"}
_KERNELS = {
    "pallas_tpu": ("tpu", attend_pallas_tpu),
    "splash": ("tpu", attend_splash),
    "pallas_gpu": ("gpu", attend_pallas_gpu),
}

_HEADS = ("batch", None, "heads", None)
_IDS = ("batch", None)


def choose_backend(asked: str, platform: str) -> str:
    """The backend that serves `asked` ("auto" or one of `BACKENDS`) on a platform ("cpu", "tpu", "gpu").

    Raises InputError when it is not known or can't run there.
    """
    if asked == "auto":
        return _AUTO.get(platform, "xla")
    if asked not in BACKENDS:
        raise InputError(f"attention {asked!r}; expected auto or one of {', '.join(BACKENDS)}")
    if asked == "cudnn":
        # jax.nn.dot_product_attention(implementation="cudnn") takes one length a row, or a mask that it turns into a bias
        # of B·H·T² numbers. Several segments a row (offsets) are an argument of a private function of jax alone.
        raise InputError(
            "attention cudnn: jax's public call can't tell the segments of a packed row apart; use pallas_gpu or xla"
        )
    wanted, _ = _KERNELS.get(asked, (platform, None))
    if platform != wanted and not interpreted():
        raise InputError(
            f"attention {asked} is a {wanted.upper()} kernel and can't run on {platform}; use auto, or one of segments, xla"
        )
    return asked


def attend(
    q_BxTxHxD: jax.Array,
    k_BxTxHxD: jax.Array,
    v_BxTxHxD: jax.Array,
    segment_ids_BxT: jax.Array,
    *,
    causal: bool,
    backend: str = "auto",
) -> jax.Array:
    """Scaled dot-product attention within segments; scores and softmax in float32.

    segment_ids_BxT: int32. Segments are unbroken runs of one id, other ids beside them; padding, id 0, stands behind
    them. A position sees only positions of its own segment; what comes out at padding is finite and means nothing.
    causal: a position sees itself and what stands before it.
    backend: "auto" takes the best one of the platform that the program is traced for; on TPUs that is splash where a row
    is too long for pallas_tpu to hold (v4 and older hold hardly any).

    Returns [B, T, H, D] in the dtype of `v`. Under `on_mesh` rows lie over the batch axes and heads over theirs. Raises
    InputError as `choose_backend`, `check_row` and `ShardingRules.spec` do.
    """
    chosen = choose_backend(backend, traced_platform())
    if backend == "auto" and chosen == "pallas_tpu":
        # Three quarters of the memory: blocks of scores and the compiler's own want the rest.
        fits = held_bytes(q_BxTxHxD.shape[1], *q_BxTxHxD.shape[2:]) <= 0.75 * traced_vector_memory()
        chosen = "pallas_tpu" if fits else "splash"
    arrays = (q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, segment_ids_BxT)
    if chosen == "xla":
        return attend_xla(*arrays, causal=causal)  # plain products, which the compiler partitions itself
    function = attend_segments if chosen == "segments" else _KERNELS[chosen][1]
    # Loops over rows and kernels are opaque to the partitioner, which would gather all rows on each device.
    return per_shard(lambda *part: function(*part, causal=causal), (_HEADS, _HEADS, _HEADS, _IDS), _HEADS)(*arrays)
