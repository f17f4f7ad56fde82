"""A timed all-reduce over all devices: how fast gradients can be added up, and whether they are."""

import dataclasses
import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ellav_jax.errors import RunError

_TRIALS = 5


@dataclasses.dataclass(frozen=True)
class AllReduceTimes:
    """latency: seconds for one float. seconds: for `size` bytes of each device. bandwidth: bytes/s that each device sends.

    An all-reduce along a ring sends 2 (D - 1) / D of its array from each of D devices (reduce-scatter, then all-gather,
    of D - 1 steps each): the bandwidth is that over the time, which makes it comparable between numbers of devices.
    """

    devices: int
    latency: float
    size: int
    seconds: float

    @property
    def bandwidth(self) -> float:
        return 2 * (self.devices - 1) / self.devices * self.size / self.seconds


def time_all_reduce(devices: Sequence[jax.Device]) -> AllReduceTimes:
    """Medians of 5, behind one that compiles. All processes call it. Raises RunError where the sum is wrong.

    float32; the long one has 64 MiB of each accelerator, 4 MiB of each CPU device.
    """
    size = (4 if devices[0].platform == "cpu" else 64) << 20
    return AllReduceTimes(len(devices), _median(devices, 1), size, _median(devices, size // 4))


def _median(devices: Sequence[jax.Device], length: int) -> float:
    mesh = Mesh(np.array(devices), ("all",), axis_types=(AxisType.Auto,))
    count = len(devices)
    # Device d holds d + 1 everywhere; small whole numbers are added without rounding, in any order.
    rows = np.arange(1, count + 1, dtype=np.float32)
    x_DxN = jax.make_array_from_callback(
        (count, length),
        NamedSharding(mesh, P("all")),
        lambda index: np.broadcast_to(rows[index[0], None], (1, length)),
    )
    add = jax.jit(lambda x_DxN: jnp.sum(x_DxN, 0), out_shardings=NamedSharding(mesh, P()))
    sum_N = jax.block_until_ready(add(x_DxN))
    seconds = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        jax.block_until_ready(add(x_DxN))
        seconds.append(time.perf_counter() - start)
    found, expected = np.unique(np.asarray(sum_N.addressable_data(0))), count * (count + 1) / 2
    if found.tolist() != [expected]:
        raise RunError(
            f"an all-reduce over {count} devices gave {', '.join(map(str, found[:3]))}, expected {expected:g}: the devices "
            "or their network compute wrongly; try other ones"
        )
    return statistics.median(seconds)
