"""Rows of several data sets: exact shares, each data set's own epochs, random access."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.loader import Batches, DataConfig, gar_rows
from data_pipelines.mixture import MixedRows
from data_pipelines.synthetic import write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig

CONFIG = DataConfig(row_length=2560, batch_rows=4)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    sizes = {"a": 30, "b": 12, "c": 7}
    datasets = [write_synthetic(folder / name, size, seed) for seed, (name, size) in enumerate(sizes.items())]
    return [gar_rows(dataset, "train", CONFIG, LayoutConfig()) for dataset in datasets]


weights_and_rows = st.tuples(
    st.lists(st.fractions(Fraction(1, 1000), 1000), min_size=3, max_size=3), st.integers(0, 10**15)
)


@given(weights_and_rows)
def test_each_row_of_each_data_set_comes_once_in_order_and_in_its_share(parts, case):
    weights, first = case
    mixed = MixedRows(parts, weights)
    assert sum(mixed.shares) == 1
    located = [mixed.locate(index) for index in range(first, first + 200)]
    for part, share in enumerate(mixed.shares):
        own = [index for where, index in located if where == part]
        # A row's own index is how many of the data set come before it: none is left out, none comes twice.
        assert own == list(range(own[0], own[0] + len(own))) if own else True
        for row, (where, index) in zip(itertools.count(first), located, strict=False):
            if where == part:
                assert abs(index - share * row) < 2


def test_the_first_rows_are_the_first_of_each_data_set(parts):
    mixed = MixedRows(parts, [Fraction(2), Fraction(1), Fraction(1)])
    found = [mixed.locate(index) for index in range(40)]
    for part, rows in enumerate((20, 10, 10)):
        assert [index for where, index in found if where == part] == list(range(rows))
    for index, (part, own) in enumerate(found[:8]):
        for name, array in mixed[index].items():
            np.testing.assert_array_equal(array, parts[part][own][name])


def test_without_weights_all_epochs_end_together(parts):
    mixed = MixedRows(parts)
    rows = [part.plan.rows_per_epoch for part in parts]
    assert [share * sum(rows) for share in mixed.shares] == rows
    found = [mixed.locate(index) for index in range(sum(rows))]
    assert [sum(where == part for where, _ in found) for part in range(3)] == rows


def test_one_data_set_is_itself(parts):
    mixed = MixedRows(parts[:1])
    assert [mixed.locate(index) for index in (0, 1, 10**12)] == [(0, 0), (0, 1), (0, 10**12)]


def test_batches_of_a_mixture_resume_at_any_row(parts):
    mixed = MixedRows(parts, [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)])
    batches, resumed = Batches(mixed), Batches(mixed, next_row=12)
    for _ in range(3):
        next(batches)
    for _ in range(3):
        for (name, one), other in zip(next(batches).items(), next(resumed).values(), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    batches.close(), resumed.close()


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_that_is_no_share_is_refused(parts, weight):
    with pytest.raises(InputError, match=f"a data set has the weight {weight}; expected more than 0"):
        MixedRows(parts, [Fraction(1), Fraction(weight), Fraction(1)])
