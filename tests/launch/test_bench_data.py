"""The benchmark of the data path on little data; what it finds at full size is in docs/results.md."""

import numpy as np
import pytest

from data_pipelines.packing import PackingPlan
from data_pipelines.synthetic import sample_lengths, write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.files import read_json
from ellav_jax.hybrid_sequence import LayoutConfig
from launch import bench_data, cli


def test_figures_of_plan_and_loader_are_printed_and_written(tmp_path, capsys):
    options = ["--utterances", "20000", "--row-length", "2048", "--batch-rows", "2", "--batches", "20"]
    assert cli.main(["bench", "data", *options, "--json", str(tmp_path / "data.json")]) == 0
    out = capsys.readouterr().out
    assert "20,000 utterances of synthetic lengths, rows of 2048 positions" in out
    assert "2,000 synthetic utterances, 20 batches of 2 rows of 2048 positions" in out
    figures = read_json(tmp_path / "data.json", "benchmark")
    assert [one["kind"] for one in figures["plan"]] == [one["kind"] for one in figures["loader"]]
    phones_N, frames_N = sample_lengths(20000)
    for one, lengths_N in zip(
        figures["plan"],
        (
            LayoutConfig().num_inputs(phones_N, frames_N),
            LayoutConfig(order="paper").num_inputs(phones_N, frames_N),
            phones_N + frames_N,
        ),
        strict=True,
    ):
        plan = PackingPlan(lengths_N, 2048, seed=0)
        assert (one["rows"], one["too_long"]) == (plan.rows_per_epoch, plan.too_long)
        assert one["real_share"] == plan.fill
        assert one["peak_mib"] > 10
    for one in figures["loader"]:
        assert 0.5 < one["real_share"] <= 1
        assert one["peak_mib"] >= one["peak_mib_after_a_tenth"] > 10
        ratio = one["positions_per_second"] / one["positions_per_core_second"]
        assert ratio == pytest.approx(one["cores_used"])


def test_a_data_set_of_ones_own_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_data, "KINDS", ("nar",))
    path = write_synthetic(tmp_path / "data", 20, shards=2).path
    figures = bench_data.run(path, utterances=100, row_length=4096, batch_rows=1, batches=10)
    assert figures["data"] == str(path)
    with pytest.raises(InputError, match="no utterance fits a row of 10 positions"):
        bench_data.run(path, utterances=100, row_length=10, batch_rows=1, batches=10)


@pytest.mark.parametrize("option", ["utterances", "row_length", "batch_rows", "batches"])
def test_senseless_options_are_refused(option):
    with pytest.raises(InputError, match=r"bench data: .* expected 1"):
        bench_data.run(**{option: 0})


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
    for one in bench_data.run(utterances=1000, batches=1100)["loader"]:
        assert one["peak_mib"] - one["peak_mib_after_a_tenth"] < 30
