"""The intervals of ratios, against closed forms and a plain resampling loop."""

import numpy as np
import pytest

from ellav_jax.evaluation.bootstrap import RESAMPLES, bootstrap_ratio


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values_U = np.random.default_rng(0).normal(5.0, 2.0, 400)
    found = bootstrap_ratio(values_U, np.ones(400))
    error = values_U.std() / np.sqrt(400)
    assert found.value == pytest.approx(values_U.mean())
    assert found.low == pytest.approx(values_U.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values_U.mean() + 1.96 * error, abs=0.15 * error)
    assert found.utterances == 400


def test_long_utterances_weigh_more_and_are_resampled_with_their_errors():
    errors_U, words_U = np.array([0.0, 9.0, 1.0]), np.array([10.0, 30.0, 5.0])
    found = bootstrap_ratio(errors_U, words_U)
    assert found.value == pytest.approx(10 / 45)
    generator = np.random.default_rng(1)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(0, 3, 3)
        ratios.append(errors_U[drawn].sum() / words_U[drawn].sum())
    assert (found.low, found.high) == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.02)


def test_rows_of_as_many_utterances_are_resampled_alike():
    values_U = np.random.default_rng(2).uniform(size=30)
    first, second = bootstrap_ratio(values_U, np.ones(30)), bootstrap_ratio(2 * values_U, np.ones(30))
    assert (second.low, second.high) == pytest.approx((2 * first.low, 2 * first.high))


def test_nothing_to_divide_by_is_no_figure():
    assert bootstrap_ratio(np.zeros(0), np.zeros(0)) is None
    assert bootstrap_ratio(np.ones(3), np.zeros(3)) is None
