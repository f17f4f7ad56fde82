"""What repetitions allow to say, against normal samples whose truth is known."""

import numpy as np
import pytest

from launch.benchmarks.statistics import ENOUGH, median, median_interval, ratio_interval, spread


def test_the_median_is_that_of_the_runs_medians_and_the_spread_that_of_all_repetitions():
    runs = [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0], [7.0, 8.0, 6.0]]
    assert median(runs) == 4.0
    assert spread(runs) == (7.0 - 3.0) / 4.0
    assert spread([[2.0, 2.0]]) == 0.0


def test_an_interval_holds_its_value_and_lies_within_what_was_seen():
    found = median_interval([[1.0, 1.1, 1.3, 0.9, 1.05]])
    assert found.value == 1.05
    assert 0.9 <= found.low <= found.value <= found.high <= 1.3
    assert found == median_interval([[1.0, 1.1, 1.3, 0.9, 1.05]])  # drawn alike each time


@pytest.mark.parametrize("repetitions", [ENOUGH, 12])
def test_of_equal_speeds_few_are_called_different_and_a_real_difference_is_found(repetitions):
    rng = np.random.default_rng(0)
    wrong = found = 0
    for _ in range(60):
        old, same = np.exp(rng.normal(0, 0.02, (2, 1, repetitions)))
        interval = ratio_interval(same, old)
        wrong += not interval.low <= 1 <= interval.high
        found += ratio_interval(1.12 * same, old).low > 1
    assert wrong <= 7  # 5 % expected at the most; 8 and more of 60 would be a chance of 1 in 100
    assert found >= 55


def test_what_differs_from_run_to_run_widens_the_interval():
    """Three processes that differ by 10 % among themselves say less than their quiet repetitions seem to."""
    offsets = np.array([[0.9], [1.0], [1.1]])
    quiet = np.linspace(0.999, 1.001, 5)
    apart = ratio_interval(offsets * quiet, [quiet] * 3)
    one = ratio_interval([quiet], [quiet])
    assert apart.low < 0.92 and apart.high > 1.08
    assert one.high - one.low < 0.005
