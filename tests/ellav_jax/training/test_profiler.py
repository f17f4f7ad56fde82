"""Traces of real steps on the CPU: which steps are in them, and that they are closed however the run ends."""

import gzip
import json
from contextlib import closing

import jax
import jax.numpy as jnp
import pytest

from ellav_jax.errors import InputError
from ellav_jax.training.profiler import ProfileConfig, Profiler


@pytest.fixture(scope="module")
def train():
    step = jax.jit(lambda x: jnp.tanh(x @ x))
    jax.block_until_ready(step(jnp.ones((8, 8))))
    return step


def _run(train, profiler, steps):
    state = jnp.ones((8, 8))
    for number in steps:
        with profiler.step(number, state):
            state = train(state)
    jax.block_until_ready(state)


def _traced_steps(directory):
    """Numbers of the steps that a trace names, from its JSON for Perfetto; asserts that there is one trace."""
    [folder] = (directory / "plugins" / "profile").iterdir()
    assert list(folder.glob("*.xplane.pb"))
    with gzip.open(folder / "perfetto_trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    return sorted({int(event["args"]["step_num"]) for event in events if "step_num" in event.get("args", {})})


def test_the_steps_asked_for_are_in_the_trace_and_no_others(train, tmp_path):
    said = []
    config = ProfileConfig(first_step=3, steps=2)
    with closing(Profiler(config, tmp_path / "profile", said.append)) as profiler:
        _run(train, profiler, range(1, 7))
        [line] = said  # told when the window ends, not when the run does
    assert _traced_steps(tmp_path / "profile") == [3, 4]
    assert line.startswith(f"trace of steps 3 to 4: {tmp_path / 'profile' / 'plugins' / 'profile'}")
    assert "xprof --logdir" in line
    assert "ui.perfetto.dev" in line
    assert said == [line]


def test_a_run_that_ends_inside_the_window_leaves_a_whole_trace(train, tmp_path):
    said = []
    with pytest.raises(KeyboardInterrupt), closing(Profiler(ProfileConfig(2, 10), tmp_path, said.append)) as profiler:
        _run(train, profiler, range(1, 4))
        raise KeyboardInterrupt
    assert _traced_steps(tmp_path) == [2, 3]
    assert said[0].startswith("trace of steps 2 to 3: ")


def test_a_run_that_continues_behind_the_window_or_asks_for_none_traces_nothing(train, tmp_path):
    for config in (ProfileConfig(2, 2), ProfileConfig()):
        with closing(Profiler(config, tmp_path / "profile", print)) as profiler:
            _run(train, profiler, range(4, 7))
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("choices", [{"first_step": 0}, {"first_step": 5, "steps": 0}])
def test_windows_without_steps_are_refused(choices):
    with pytest.raises(InputError, match="must be 1 or more"):
        ProfileConfig(**choices)
