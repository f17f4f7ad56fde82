"""The benchmark of the training step on a small model; what it finds at full size is in docs/results.md."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from configs.experiment import find_experiment
from configs.trained import define_model
from data_pipelines.loader import Batches, empty_row
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.export.convert import to_torch
from ellav_jax.files import read_json
from ellav_jax.flops import segment_lengths
from ellav_jax.sharding import make_mesh
from launch import bench_train
from launch.assemble import split_rows, steps_of
from launch.bench_twin import Twin, pad_sorted


def _batches(experiment, dataset, number):
    source = Batches(split_rows(experiment, dataset, "train"))
    batches = [next(source) for _ in range(number)]
    source.close()
    return batches


@pytest.mark.parametrize("kind", ["gar", pytest.param("nar", marks=pytest.mark.slow)])
def test_figures_of_loop_step_and_twin_are_printed_and_written(tmp_path, capsys, experiments, prepared_bundled, kind):
    name = f"{experiments}:{kind}"
    bench_train.run(name, prepared_bundled, against="torch", steps=1, blocks=2, json=tmp_path / "train.json")
    out = capsys.readouterr().out
    assert "2 blocks of 1 steps, by turns" in out
    assert "against torch (AdamW" in out
    figures = read_json(tmp_path / "train.json", "benchmark")
    loop, bare = figures["loop_seconds_per_step"], figures["bare_seconds_per_step"]
    assert len(loop) == len(bare) == 2
    assert figures["loop_overhead"] == pytest.approx(np.median(np.divide(loop, bare)) - 1)
    assert figures["positions_per_second"] == pytest.approx(2 * 256 / np.median(loop))
    assert figures["compile_seconds"] > 0

    twin, experiment = figures["torch"], find_experiment(name)
    # Every fourth of the batches that the padded ones are made of.
    packed = _batches(experiment, Dataset.open(prepared_bundled), 8)[::4]
    real = np.mean([np.mean(batch["segment_ids"] > 0) for batch in packed])
    assert twin["real_share"]["ours"] == twin["real_share"]["packed"] == pytest.approx(real)
    assert 0.5 < twin["real_share"]["padded"] <= 1
    ours, theirs = (np.array(twin["seconds_per_step"][one]) for one in ("ours", "packed"))
    assert twin["ratio_packed"] == pytest.approx(np.median(theirs / ours))
    audio, seconds = twin["audio_seconds_per_second"], twin["seconds_per_step"]
    assert audio["ours"] / audio["packed"] == pytest.approx(np.median(1 / ours) / np.median(1 / theirs))
    assert set(twin["choice"]) == {"optimizer", "attention"}
    assert len(seconds["padded"]) == 2


@pytest.mark.parametrize("kind", ["gar", "nar"])
def test_padded_batches_hold_the_packed_utterances_sorted_and_within_the_budget(experiments, prepared_bundled, kind):
    experiment = find_experiment(f"{experiments}:{kind}")
    packed = _batches(experiment, Dataset.open(prepared_bundled), 3)
    padded = pad_sorted(packed, kind, 512)
    lengths = [segment_lengths(batch["segment_ids"]) for batch in padded]
    everything = np.concatenate(lengths)
    assert np.all(np.diff(everything) >= 0)
    assert sorted(everything) == sorted(np.concatenate([segment_lengths(batch["segment_ids"]) for batch in packed]))
    assert all(batch["segment_ids"].size <= 512 for batch in padded)
    # Each could not have taken the next one's first utterance as well.
    for here, after in itertools.pairwise(lengths):
        assert (len(here) + 1) * after[0] > 512
    for name, empty in empty_row(kind, 1).items():
        if name not in ("segment_ids", "dropout_keys"):
            total = sum(batch[name][batch["segment_ids"] > 0].sum(dtype=np.int64) for batch in packed)
            assert sum(batch[name][batch["segment_ids"] > 0].sum(dtype=np.int64) for batch in padded) == total
        for batch in padded:
            assert batch[name].dtype == empty.dtype
            if name != "segment_ids":
                assert np.all(batch[name][batch["segment_ids"] == 0] == empty)


@pytest.mark.slow
def test_a_step_of_the_twin_is_ours(experiments, prepared_bundled):
    experiment = find_experiment(f"{experiments}:gar")
    dataset = Dataset.open(prepared_bundled)
    num_phones = len(dataset.frontend.phones)
    steps = steps_of(experiment, define_model(experiment, num_phones), make_mesh(experiment.mesh))
    state = steps.init(jax.random.key(0))
    before = to_torch(jax.device_get(state["params"]))
    twin = Twin(experiment, num_phones, state["params"])
    # The schedule begins with 0, and with a warm-up of one step reaches its peak in the next.
    for batch, rate in zip(_batches(experiment, dataset, 2), (0.0, experiment.train.optimizer.peak_lr), strict=True):
        for group in twin.optimizer.param_groups:
            group["lr"] = rate
        twin.step(twin.packed(batch, "calls"))
        state, _ = steps.train(state, batch, np.uint32(0))
    found = twin.module.state_dict()
    for name, expected in to_torch(jax.device_get(state["params"])).items():
        moved = np.abs(expected - before[name]).mean()
        assert moved > 0
        # Adam divides by the gradient's own size, so a single number whose gradient is nearly 0 may go either way.
        assert np.abs(found[name].numpy() - expected).mean() < 1e-3 * moved, name


def test_what_the_twin_does_not_have_is_refused(experiments):
    experiment = find_experiment(f"{experiments}:gar")
    optimizer = dataclasses.replace(experiment.train.optimizer, ema_decay=0.9)
    changed = dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, optimizer=optimizer))
    with pytest.raises(InputError, match="the twin has AdamW and plain cross-entropy only"):
        Twin(changed, 5, {})


@pytest.mark.parametrize("option", ["steps", "blocks"])
def test_senseless_options_are_refused(option):
    with pytest.raises(InputError, match=r"bench train: .* expected 1 or more"):
        bench_train.run(**{option: 0})
