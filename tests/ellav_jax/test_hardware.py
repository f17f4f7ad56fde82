"""Names of hardware, and the figures behind them."""

from types import SimpleNamespace

import jax
import pytest

from ellav_jax.errors import InputError
from ellav_jax.hardware import GPUS, TPUS, device_peak, find_topology, hardware_name


def _devices(kind, count, slices=None, platform="tpu"):
    device = {"device_kind": kind, "platform": platform}
    if slices is None:
        return [SimpleNamespace(**device)] * count
    return [SimpleNamespace(**device, slice_index=index * slices // count) for index in range(count)]


@pytest.mark.parametrize(
    "devices, name",
    [
        (_devices("TPU v5", 128), "v5p-256"),
        (_devices("TPU v5p", 128, slices=1), "v5p-256"),
        (_devices("TPU v5", 256, slices=2), "2xv5p-256"),
        (_devices("TPU v4", 4), "v4-8"),
        (_devices("TPU v5 lite", 16, slices=1), "v5e-16"),
        (_devices("TPU v6 lite", 512, slices=2), "2xv6e-256"),
        # What a GPU calls a slice is a host.
        (_devices("NVIDIA H100 80GB HBM3", 16, slices=2, platform="gpu"), "h100-16"),
        (_devices("NVIDIA GeForce RTX 4090", 2, platform="gpu"), "gpu-2"),
        (_devices("cpu", 8, platform="cpu"), "cpu-8"),
    ],
)
def test_hardware_is_named_after_its_devices(devices, name):
    assert hardware_name(devices) == name


def test_the_devices_at_hand_have_a_name():
    assert hardware_name(jax.devices()[:1]) == "cpu-1"


@pytest.mark.parametrize(
    "name, devices, hosts, shape, wrapped",
    [
        ("v5p-256", 128, 32, (4, 4, 8), (True, True, True)),
        ("v5p-8", 4, 1, (2, 2, 1), (False, False, False)),
        ("2xv5p-256", 256, 64, (4, 4, 8), (True, True, True)),
        ("v4-32", 16, 4, (2, 2, 4), (False, False, False)),
        ("v5e-1", 1, 1, (1, 1), (False, False)),
        ("v5e-8", 8, 1, (2, 4), (False, False)),
        ("v5e-128", 128, 32, (8, 16), (False, True)),
        ("3xv6e-256", 768, 192, (16, 16), (True, True)),
    ],
)
def test_a_topology_has_the_devices_and_the_wires_of_its_name(name, devices, hosts, shape, wrapped):
    topology = find_topology(name)
    assert (topology.num_devices, topology.num_hosts) == (devices, hosts)
    assert (topology.shape, topology.wrapped) == (shape, wrapped)
    assert topology.name == name


def test_every_slice_of_the_table_is_found_by_the_name_that_its_devices_would_have():
    for tpu in TPUS:
        for shape in tpu.shapes:
            chips = 1
            for size in shape:
                chips *= size
            assert find_topology(hardware_name(_devices(tpu.kinds[0], chips))).shape == shape


@pytest.mark.parametrize("name", ["v5p", "v5p-256x2", "v7-8", "h100-8", "0xv5e-16", "xv5e-16", "", "v5e-"])
def test_a_name_of_another_form_is_refused_with_the_forms(name):
    with pytest.raises(InputError, match=r"expected TYPE-SIZE or SLICESxTYPE-SIZE.*types are v4, v5e, v5p, v6e"):
        find_topology(name)


def test_a_slice_that_is_not_offered_is_refused_with_those_that_are():
    with pytest.raises(
        InputError, match=r"'v5p-100': v5p has no slice of 100; sizes count TensorCores.*: 8, 16, 32, 64"
    ):
        find_topology("v5p-100")
    with pytest.raises(InputError, match=r"v5e has no slice of 12; sizes count chips: 1, 4, 8, 16"):
        find_topology("v5e-12")


def test_clock_and_matrix_units_make_the_peak():
    for tpu in TPUS:
        units = tpu.peak / tpu.clock / (2 * tpu.matrix_unit**2)
        assert units == pytest.approx(round(units), rel=0.01)


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("NVIDIA H100 80GB HBM3", 9.89e14),
        ("NVIDIA H100 PCIe", 7.56e14),
        ("NVIDIA H200", 9.89e14),
        ("NVIDIA A100-SXM4-40GB", 3.12e14),
        ("TPU v5 lite", 1.97e14),
        ("TPU v5", 4.59e14),
        ("TPU v6 lite", 9.18e14),
        ("cpu", None),
    ],
)
def test_peaks_go_by_the_devices_name(kind, peak):
    assert device_peak(kind) == peak


def test_kinds_that_begin_alike_are_told_apart():
    for chip in (*TPUS, *GPUS):
        for kind in chip.kinds:
            assert device_peak(kind) == chip.peak
