"""The closed form against counts written out for a model small enough to count by hand."""

import dataclasses

import pytest

from ellav_jax.hardware import find_topology
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.planning.roofline import (
    KERNEL_EFFICIENCY,
    Roofline,
    Workload,
    attention_flops,
    attention_seconds,
    estimate,
    link_seconds,
    memory_bytes,
    network_bytes,
    product_flops,
    ring_bandwidth,
)

V5P = find_topology("v5p-256")
V5E = find_topology("v5e-16")


def _work(preset="paper", remat="none", attention="splash", **changes):
    sizes = {"num_layers": 3, "num_heads": 4, "width": 256, "ff_width": 512, "remat": remat}
    config = getattr(TransformerConfig, preset)(**sizes)
    config = dataclasses.replace(config, attention=attention)
    whole = Workload(config, True, 100, 1_000_000, rows=8, row_length=128, data=4, fsdp=1, tensor=1, visited=0.25)
    return dataclasses.replace(whole, **changes)


def test_products_are_counted_three_times_and_again_where_they_are_recomputed():
    positions = 8 * 128 / 4
    square, wide, head = 256 * 256, 256 * 512, 256 * 100
    once = 3 * (4 * square + 2 * wide) + head
    assert product_flops(_work()) == 2 * positions * 3 * once
    assert product_flops(_work(remat="dots")) == product_flops(_work())
    again = 3 * (4 * square + wide)  # the last product's result is not needed
    for remat in ("attention", "full"):
        assert product_flops(_work(remat=remat)) == 2 * positions * (3 * once + again)
    gated = 3 * (4 * square + 3 * wide) + head
    assert product_flops(_work("llama")) == 2 * positions * 3 * gated


def test_splash_runs_over_whole_rows():
    row = 2 * 128 * 128 * 256 / 2  # one product of a causal row, all heads
    assert attention_flops(_work()) == (3 * 2 * 3 * row, 3 * 2 * 4 * row)
    assert attention_flops(_work(remat="attention")) == attention_flops(_work())
    assert attention_flops(_work(remat="full")) == (3 * 2 * 4 * row, 3 * 2 * 5 * row)
    assert sum(attention_flops(_work(causal=False))) == 2 * sum(attention_flops(_work()))
    # Half as many rows twice as long.
    assert sum(attention_flops(_work(rows=4, row_length=256))) == 2 * sum(attention_flops(_work()))


@pytest.mark.parametrize("causal", [True, False])
def test_our_kernel_runs_over_the_blocks_that_it_visits(causal):
    whole = _work(causal=causal, attention="xla")
    for attention in ("auto", "pallas_tpu"):
        ours = _work(causal=causal, attention=attention)
        assert sum(attention_flops(ours)) == pytest.approx(sum(attention_flops(whole)) * (0.5 if causal else 0.25))


def test_narrow_heads_leave_matrix_units_idle():
    wide = dataclasses.replace(_work().transformer, num_heads=1)
    seconds = sum(attention_flops(_work())) / (V5P.tpu.peak * KERNEL_EFFICIENCY["splash"])
    assert attention_seconds(_work(), V5P.tpu) == pytest.approx(2 * seconds)  # heads of 64 in units of 128
    assert attention_seconds(_work(transformer=wide), V5P.tpu) == pytest.approx(seconds)
    # Ours turns narrow results over: three of the seven products take twice as long.
    ours = _work(attention="pallas_tpu")
    wide = dataclasses.replace(ours.transformer, num_heads=1)
    ratio = attention_seconds(ours, V5P.tpu) / attention_seconds(_work(transformer=wide), V5P.tpu)
    assert ratio == pytest.approx(10 / 7)


@pytest.mark.parametrize(
    "attention, heads, visits, bundles, rel",
    [
        ("splash", 16, 36, 16 * (2264 + 3185) * 36, 0.02),
        # Groups of two heads of 64, or of one of 128: each visit, and what each of eight blocks and a row take beside.
        ("pallas_tpu", 16, 20, 8 * ((2330 + 3643) * 20 + (371 + 1320) * 8 + 1545), 0.02),
        ("pallas_tpu", 8, 20, 8 * ((1281 + 2516) * 20 + (341 + 1260) * 8 + 1545), 0.05),
    ],
)
def test_a_kernels_efficiency_is_that_of_the_compilers_schedule(attention, heads, visits, bundles, rel):
    # The published size on a row of 4,096, in blocks of 512², over two cores.
    config = TransformerConfig.paper(num_layers=1, num_heads=heads, width=1024, ff_width=4096, remat="attention")
    config = dataclasses.replace(config, attention=attention)
    row = _work(transformer=config, rows=1, row_length=4096, data=1, visited=visits / 64)
    assert attention_seconds(row, V5P.tpu) == pytest.approx(bundles / 2 / V5P.tpu.clock, rel=rel)


def test_memory_moves_activations_and_the_optimizer():
    positions = 8 * 128 / 4
    # q, k, v, output each in and out; attention three in and one out; up and down in and out.
    numbers = 4 * 2 * 256 + 4 * 256 + 2 * (256 + 512)
    moved = 3 * 3 * 2 * numbers * positions + 3 * 2 * 1_000_000 + 28 * 1_000_000
    assert memory_bytes(_work()) == moved
    assert memory_bytes(_work(remat="full")) > moved
    sharded = _work(data=1, fsdp=4)
    assert memory_bytes(_work()) - memory_bytes(sharded) == 28 * 1_000_000 * 3 / 4


def test_links_carry_gradients_parameters_and_activations():
    bandwidth = ring_bandwidth(V5E)
    assert link_seconds(_work(), V5E) == pytest.approx(8e6 * 3 / 4 / bandwidth)
    assert link_seconds(_work(data=1, fsdp=4), V5E) == pytest.approx(8e6 * 3 / 4 / bandwidth)
    both = 8e6 / 2 + 8e6 / 2 / 2
    assert link_seconds(_work(data=2, fsdp=2), V5E) == pytest.approx(both / bandwidth)
    # Four sums (each there and back) in each layer of bfloat16 activations of all rows.
    sums = 4 * 3 * 2 * 2 * 256 * 8 * 128 * 3 / 4
    assert link_seconds(_work(data=1, tensor=4), V5E) == pytest.approx(sums / bandwidth)
    assert link_seconds(_work(data=1, rows=2), V5E) == 0


def test_rings_carry_both_ways_on_every_axis():
    assert ring_bandwidth(V5P) == 6 * 9e10
    assert ring_bandwidth(V5E) == 2 * 4.5e10  # too short to close
    assert ring_bandwidth(find_topology("v5e-256")) == 4 * 4.5e10
    assert ring_bandwidth(find_topology("v5e-1")) == 4.5e10


def test_slices_exchange_each_devices_part_of_the_gradients():
    assert network_bytes(_work(), 1) == 0
    assert network_bytes(_work(), 2) == 8e6 / 2 / 2
    assert link_seconds(_work(), find_topology("2xv5e-4")) < link_seconds(_work(), V5E)


def test_the_slowest_part_binds():
    assert Roofline(compute=3.0, memory=2.0, links=5.0, network=1.0).binding == "links"
    assert Roofline(compute=3.0, memory=2.0, links=5.0, network=1.0).seconds == 5.0
    line = estimate(_work(), V5P)
    assert line.compute == product_flops(_work()) / 4.59e14 + attention_seconds(_work(), V5P.tpu)
    assert line.memory == memory_bytes(_work()) / 2.765e12
