"""Batches of one shape, and results in their order."""

import random

from ellav_jax.synthesis.batches import in_batches, in_order


def test_batches_are_of_one_shape_and_begin_with_the_first_that_waits():
    assert list(in_batches(list("abaabba"), 3)) == [[0, 2, 3], [1, 4, 5], [6]]
    assert list(in_batches([], 3)) == []


def test_results_come_in_order_and_as_soon_as_they_can():
    given = []

    def results():
        for place in (1, 0, 3, 2, 4):
            given.append(place)
            yield place, f"result {place}"

    found = in_order(results())
    assert next(found) == "result 0"
    assert given == [1, 0]
    assert next(found) == "result 1"
    assert given == [1, 0]
    assert list(found) == ["result 2", "result 3", "result 4"]


def test_every_result_comes_once():
    rng = random.Random(0)
    shapes = [rng.choice("abc") for _ in range(40)]
    places = [place for batch in in_batches(shapes, 4) for place in batch]
    assert sorted(places) == list(range(40))
    assert list(in_order((place, place) for place in places)) == list(range(40))
