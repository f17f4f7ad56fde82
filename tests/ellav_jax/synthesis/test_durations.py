"""Durations at another speed."""

import numpy as np
import pytest

from ellav_jax.synthesis.durations import at_speed


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.0, 1.1, 1.7])
def test_the_whole_is_scaled_to_a_frame_and_each_phone_to_one(speed):
    durations = np.random.default_rng(0).integers(3, 20, 200)
    free = np.zeros(200, bool)
    scaled = at_speed(durations, speed, np.ones(200, int), np.full(200, 10**6), free)
    assert abs(scaled.sum() - durations.sum() / speed) <= 1
    assert np.all(np.abs(scaled - durations / speed) <= 1)
    assert scaled.min() >= 1


def test_what_is_fixed_stays_and_floors_and_caps_hold():
    durations = np.array([4, 12, 10, 20, 2])
    floors, caps = np.array([1, 12, 8, 1, 1]), np.array([99, 12, 99, 9, 99])
    scaled = at_speed(durations, 2.0, floors, caps, floors == caps)
    assert scaled.tolist() == [2, 12, 8, 9, 1]
