"""Which time a log line's figures are of."""

import time

import jax.numpy as jnp

from ellav_jax.training.window import Window


def _after_a_step() -> Window:
    window = Window()
    window.metrics.append({"loss": jnp.ones(()).block_until_ready()})
    return window


def test_a_window_whose_steps_are_computed_ends_there_and_the_next_begins_there():
    window = _after_a_step()
    window.end_if_computed()
    seconds = window.seconds
    time.sleep(0.05)
    assert window.seconds == seconds
    following = Window(window)
    assert following.seconds >= 0.05
    assert following.seconds + seconds >= 0.05


def test_without_one_ahead_it_begins_now():
    window = _after_a_step()
    time.sleep(0.05)
    assert window.seconds >= 0.05
    assert Window().seconds < 0.05
