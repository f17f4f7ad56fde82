"""The loop: what it resumes, saves, logs and evaluates."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from ellav_jax.errors import InputError, RunError
from ellav_jax.training.checkpoint import find_checkpoint
from ellav_jax.training.ledger import time_line
from ellav_jax.training.loop import train
from ellav_jax.training.metrics import read_metrics
from ellav_jax.training.optimizer import OptimizerConfig
from ellav_jax.training.run import Run, TrainConfig
from ellav_jax.training.sample import Sample

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = 2


class Source:
    """Batches of random rows by index; tells what was drawn, and does `at_row[index]()` before that row is given."""

    def __init__(self, make, next_row, drawn, at_row):
        self.make, self.next_row, self.drawn, self.at_row = make, next_row, drawn, at_row
        self.closed = False

    def close(self):
        self.closed = True

    def __iter__(self):
        return self

    def __next__(self):
        self.drawn.append(self.next_row)
        self.at_row.get(self.next_row, lambda: None)()
        batch = self.make(self.next_row, rows=ROWS)
        self.next_row += ROWS
        return batch


@pytest.fixture
def run(tiny_steps, random_rows):
    """`run(workdir, steps=6)` trains; `run.drawn` are the rows drawn, `run.said` the lines, of all calls."""

    def call(workdir, at_row=None, samples=None, **choices):
        workdir.mkdir(exist_ok=True)

        def source(next_row):
            call.source = Source(random_rows, next_row, call.drawn, at_row or {})
            return call.source

        config = TrainConfig(**{"log_every": 1, "evaluate_every": 3, "checkpoint_every": 100} | choices)
        return train(
            config,
            Run(
                steps=tiny_steps.steps,
                params=None,
                batches=source,
                held_out=lambda: [random_rows(1000), random_rows(1001)],
                flops=lambda lengths, targets: 1e6 * lengths.sum() + targets,
                frames=lambda batch: int(batch["loss_mask"].sum()),
                frame_rate=75,
                batch_sharding=tiny_steps.rules.of_batch(tiny_steps.mesh, ROWS),
                card={"experiment": {}, "frontend": {}, "codec": {}},
                say=call.said.append,
                samples=samples,
            ),
            workdir,
        )

    call.drawn, call.said = [], []
    return call


def _losses(workdir):
    return {entry["step"]: entry["loss"] for entry in read_metrics(workdir / "metrics.jsonl", "train")}


def test_a_resumed_run_continues_with_the_next_batch_and_is_bit_for_bit_the_undisturbed_one(run, tmp_path):
    undisturbed = run(tmp_path / "whole", steps=8)
    rows = run.drawn.copy()
    run.drawn.clear()
    run(tmp_path / "parts", steps=3)
    assert run.drawn == rows[:3]
    assert run.source.closed
    resumed = run(tmp_path / "parts", steps=8)
    assert run.drawn == rows
    assert "resumed at step 3, row 6" in run.said
    # The first step after a start is left out of the log: its time is the compilation's.
    whole, parts = _losses(tmp_path / "whole"), _losses(tmp_path / "parts")
    assert whole.keys() - parts.keys() == {4}
    assert all(parts[step] == whole[step] for step in parts)
    assert resumed == undisturbed


def test_a_finished_run_only_evaluates(run, tmp_path):
    first = run(tmp_path, steps=3)
    drawn = len(run.drawn)
    assert run(tmp_path, steps=3) == first
    assert len(run.drawn) == drawn


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_after_the_step_under_way_and_the_next_call_goes_on(run, tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, steps=8, at_row={4: lambda: os.kill(os.getpid(), number)})
    assert signal.getsignal(number) is before
    assert find_checkpoint(tmp_path).name == "3"
    assert run.said[-1] == "stopped at step 3, checkpoint saved; the same command continues"
    run.drawn.clear()
    run(tmp_path, steps=5)
    assert run.drawn == [6, 8]


def test_a_second_interrupt_ends_at_once(run, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, steps=8, at_row={4: twice})
    with pytest.raises(InputError, match="no finished checkpoint"):
        find_checkpoint(tmp_path)


def test_an_error_in_the_data_does_not_lose_the_checkpoint_being_written(run, tmp_path):
    def damaged():
        raise InputError("shard: damaged")

    with pytest.raises(InputError, match="damaged"):
        run(tmp_path, steps=8, checkpoint_every=2, at_row={4: damaged})
    assert find_checkpoint(tmp_path).name == "2"
    run.drawn.clear()
    run(tmp_path, steps=4, checkpoint_every=2)
    assert run.drawn == [4, 6]


def test_checkpoints_come_at_their_interval_and_at_the_end(run, tmp_path):
    run(tmp_path, steps=7, checkpoint_every=2, keep_checkpoints=3)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [4, 6, 7]


def test_logs_average_their_window_and_held_out_figures_are_sums_divided_once(run, tiny_steps, random_rows, tmp_path):
    run(tmp_path / "each", steps=6)
    figures = run(tmp_path / "threes", steps=6, log_every=2, evaluate_every=6)
    each, threes = _losses(tmp_path / "each"), _losses(tmp_path / "threes")
    assert list(threes) == [3, 5, 6]
    assert threes[3] == pytest.approx((each[2] + each[3]) / 2, rel=1e-6)
    assert threes[6] == each[6]
    entry = read_metrics(tmp_path / "each" / "metrics.jsonl", "train")[-1]
    batch = random_rows(10)
    assert entry["real_share"] == np.mean(batch["segment_ids"] > 0)
    assert entry["learning_rate"] == pytest.approx(5e-4 * 5 / 32_000)  # of the configuration, step 6's update
    assert "mfu" not in entry  # a processor's peak is not known
    held_out = read_metrics(tmp_path / "threes" / "metrics.jsonl", "held_out")
    assert [entry["step"] for entry in held_out] == [6]
    assert held_out[0]["loss"] == figures["loss"]
    assert set(figures) == {"loss", "layer_1_loss", "layer_1_accuracy"}


@pytest.mark.parametrize("name", ["steps", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints"])
def test_a_number_below_one_is_refused(name):
    with pytest.raises(InputError, match=f"{name} must be 1 or more, got 0"):
        TrainConfig(**{name: 0}, optimizer=OptimizerConfig())


@pytest.mark.parametrize("log_every", [1, 2, 100])
def test_a_loss_that_is_no_number_ends_the_run_with_a_description_and_keeps_the_checkpoint_from_before(
    run, tmp_path, log_every, tiny_steps, monkeypatch
):
    train_step, poisoned = tiny_steps.steps.train, []

    def poison(state, batch, key):
        if int(state["step"]) == 4 and not poisoned:
            poisoned.append(True)
            state["params"] = jax.tree.map(lambda leaf: leaf * np.nan, state["params"])
        return train_step(state, batch, key)

    monkeypatch.setattr(tiny_steps, "steps", dataclasses.replace(tiny_steps.steps, train=poison))
    run(tmp_path, steps=2)
    with pytest.raises(RunError, match="step 5: loss nan, grad_norm nan") as caught:
        run(tmp_path, steps=12, log_every=log_every, checkpoint_every=4, evaluate_every=100)
    assert str(tmp_path / "nonfinite-5.json") in str(caught.value)
    description = json.loads((tmp_path / "nonfinite-5.json").read_text())
    assert (description["step"], description["rows"]) == (5, [8, 10])
    assert description["nonfinite_parameters"]
    # What was saved last is from before the step, and a run goes on from there.
    assert find_checkpoint(tmp_path).name == "4"
    run(tmp_path, steps=6)
    assert "resumed at step 4, row 8" in run.said


class Speaker:
    """Samples of a number: a sum over the parameters that it is given."""

    every = 2

    def __init__(self):
        self.spoken = []

    def speak(self, params, step):
        self.spoken.append((step, sum(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(params))))
        return [Sample("0", np.zeros(8, np.float32), 24_000, np.zeros((4, 4, 3), np.uint8))]


def test_samples_are_spoken_every_so_many_steps_with_the_parameters_of_then(run, tmp_path):
    speaker = Speaker()
    with_samples = run(tmp_path / "with", steps=5, samples=speaker)
    assert [step for step, _ in speaker.spoken] == [2, 4]
    assert len({total for _, total in speaker.spoken}) == 2
    assert run(tmp_path / "without", steps=5) == with_samples
    [board] = (tmp_path / "with" / "tensorboard").iterdir()
    assert b"samples/0" in board.read_bytes()


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_a_run_tells_where_its_time_went_when_it_ends_and_when_it_is_interrupted(run, tmp_path, number):
    if number is None:
        run(tmp_path, steps=4, samples=Speaker())
    else:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, steps=8, samples=Speaker(), at_row={6: lambda: os.kill(os.getpid(), number)})
    [entry] = read_metrics(tmp_path / "metrics.jsonl", "time")
    assert entry["step"] == 4
    seconds = {name: value for name, value in entry.items() if name.endswith("_seconds")}
    wall = seconds.pop("wall_seconds")
    assert sum(seconds.values()) == pytest.approx(wall, abs=1e-6)
    assert all(seconds[f"{name}_seconds"] > 0 for name in ("start", "data", "step", "checkpoint", "samples"))
    assert entry["goodput"] == pytest.approx(seconds["step_seconds"] / wall)
    [line] = [line for line in run.said if line.startswith("time ")]
    assert line == time_line(entry)
    run(tmp_path, steps=4)  # nothing left to do: nothing to tell
    assert len(read_metrics(tmp_path / "metrics.jsonl", "time")) == 1


def test_each_log_entry_has_the_memory_of_its_host(run, tmp_path):
    run(tmp_path, steps=3)
    assert all(0.05 < entry["host_rss_gib"] < 64 for entry in read_metrics(tmp_path / "metrics.jsonl", "train"))
