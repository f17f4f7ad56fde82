"""The benchmark of the data path on little data; what it finds at full size is in docs/data_at_scale.md."""

import numpy as np
import pytest

from data_pipelines.packing import PackingPlan
from data_pipelines.synthetic import sample_lengths, write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig
from launch import cli
from launch.benchmarks import data as bench_data
from launch.benchmarks.data import measure_load, measure_plan
from launch.benchmarks.record import read_record


def test_plan_and_loader_are_measured_in_processes_of_their_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_data, "KINDS", ("compact",))
    options = ["--utterances", "20000", "--row-length", "2048", "--batch", "2", "--batches", "20"]
    assert cli.main(["bench", "data", *options, "--repetitions", "3", "--json", str(tmp_path / "data.json")]) == 0
    out = capsys.readouterr().out
    assert "utterances 20,000, batches 20" in out and "2,000 synthetic utterances" in out
    plan, load = read_record(tmp_path / "data.json").points
    assert plan.label == {"plan": "compact", "row_length": 2048}
    assert load.label == {"load": "compact", "row_length": 2048, "batch": 2}
    assert [len(one.seconds[0]) for one in plan.measures.values()] == [3, 3]
    # A tenth warms up; the others are read in three parts.
    assert len(load.measures["batches"].seconds[0]) == 3
    assert load.measures["batches"].work == {"positions": 6 * 2 * 2048}
    assert plan.figures["peak_bytes"] < load.figures["peak_bytes"]  # planning does not bring jax
    assert 0 <= plan.figures["others_share"] <= 1


@pytest.mark.parametrize("kind", ["compact", "paper", "nar"])
def test_the_plan_that_is_timed_is_that_of_the_lengths(kind):
    point, _ = measure_plan(kind, 5000, 2048, 2)
    phones_N, frames_N = sample_lengths(5000)
    lengths_N = phones_N + frames_N if kind == "nar" else LayoutConfig(order=kind).num_inputs(phones_N, frames_N)
    plan = PackingPlan(lengths_N, 2048, seed=0)
    found = [point.figures[name] for name in ("rows", "too_long", "real_share")]
    assert found == [plan.rows_per_epoch, plan.too_long, plan.fill]


def test_a_data_set_of_ones_own_is_read(tmp_path):
    path = write_synthetic(tmp_path / "data", 20, shards=2).path
    point, _ = measure_load("nar", path, 4096, 1, 20, 2)
    assert 0.5 < point.figures["real_share"] <= 1
    assert point.figures["peak_bytes"] >= point.figures["peak_bytes_warm"] > 10 << 20
    rate = 18 * 4096 / sum(point.measures["batches"].seconds[0])
    assert rate / point.figures["positions_per_core_second"] == pytest.approx(point.figures["cores_used"])
    with pytest.raises(InputError, match="no utterance fits a row of 10 positions"):
        measure_load("nar", path, 10, 1, 20, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"utterances": 0}, "bench data: utterances is 0; expected 1"),
        ({"repetitions": 0}, "bench data: repetitions is 0; expected 1"),
        ({"runs": 0}, "bench data: runs is 0; expected 1"),
        ({"batches": 19}, "bench data: 19 batches; expected 20 or more"),
        ({"row_length": "0"}, "--row-length 0: expected"),
        ({"batch": "2,,4"}, "--batch 2,,4: expected"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        bench_data.run(**options)


def test_synthetic_speech_is_shaped_as_it_says():
    phones_N, frames_N = sample_lengths(200_000)
    seconds_N = frames_N / 75
    assert 1 <= seconds_N.min() < 1.1
    assert 24.9 < seconds_N.max() <= 25
    assert seconds_N.mean() == pytest.approx(12.3, abs=0.05)
    assert 14 <= np.histogram(seconds_N, np.arange(1, 25.5, 0.5))[0].argmax() / 2 + 1 <= 15.5
    assert phones_N.sum() / seconds_N.sum() == pytest.approx(10.5, abs=0.02)
    assert np.array_equal(sample_lengths(100)[1], sample_lengths(100)[1])


@pytest.mark.slow
def test_memory_stays_flat_over_many_batches():
    """A thousand batches hold at least 0.6 GB; the most memory held may not grow by a twentieth of that."""
    for point in bench_data.run(utterances=1000, batches=1100).points:
        if "load" in point.label:
            assert point.figures["peak_bytes"] - point.figures["peak_bytes_warm"] < 30 << 20
