"""FLOPs against a count written out product by product."""

import numpy as np
import pytest

from ellav_jax.flops import gar_step_flops, nar_step_flops, segment_lengths, transformer_forward_flops


def _matmul(rows, inner, columns):
    return 2 * rows * inner * columns


def _forward_by_hand(config, lengths, causal):
    """Each matrix product of each layer, multiply and add counted as two."""
    total = 0
    for length in lengths:
        for _ in range(config.num_layers):
            total += 4 * _matmul(length, config.width, config.width)  # queries, keys, values, output
            products = 3 if config.feed_forward == "swiglu" else 2
            total += products * _matmul(length, config.width, config.ff_width)
            for _ in range(config.num_heads):
                pairs = _matmul(length, config.head_width, length) + _matmul(length, length, config.head_width)
                total += pairs / 2 if causal else pairs
    return total


@pytest.mark.parametrize("preset", ["paper", "llama"])
def test_a_step_is_three_forwards_of_every_product(tiny, preset):
    config, lengths, targets = tiny(preset, num_layers=3), np.array([5, 9, 1]), 11
    for causal in (True, False):
        by_hand = _forward_by_hand(config, lengths, causal)
        assert transformer_forward_flops(config, lengths, causal=causal) == by_hand
    gar = 3 * (_forward_by_hand(config, lengths, True) + _matmul(targets, 32, 1026))
    nar = 3 * (_forward_by_hand(config, lengths, False) + _matmul(targets, 32, 1024))
    assert gar_step_flops(config, lengths, targets) == gar
    assert nar_step_flops(config, lengths, targets) == nar


def test_attention_counts_segments_and_not_the_row(tiny):
    config = tiny()
    halves = transformer_forward_flops(config, np.array([50, 50]), causal=False)
    whole = transformer_forward_flops(config, np.array([100]), causal=False)
    assert whole - halves == config.num_layers * 4 * config.width * (100**2 - 2 * 50**2)


def test_segment_lengths_leave_padding_out_and_keep_rows_apart():
    segment_ids = np.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 3, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert segment_lengths(segment_ids).tolist() == [2, 3, 1, 1, 2]
    assert segment_lengths(np.zeros((2, 4), np.int32)).tolist() == []
