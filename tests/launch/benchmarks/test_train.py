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
from ellav_jax.flops import gar_step_flops, nar_step_flops, segment_lengths
from ellav_jax.sharding import make_mesh
from launch import cli
from launch.assemble import split_rows, steps_of
from launch.benchmarks import train as bench_train
from launch.benchmarks.points import StepOptions, with_transformer
from launch.benchmarks.record import read_record
from launch.benchmarks.step import StepRequest, measure_step
from launch.benchmarks.twin import Twin, pad_sorted


def _batches(experiment, dataset, number):
    source = Batches(split_rows(experiment, dataset, "train"))
    batches = [next(source) for _ in range(number)]
    source.close()
    return batches


def _request(name, data, folder, **changes):
    request = StepRequest(
        name=name,
        experiment=find_experiment(name),
        label={},
        data=data,
        folder=folder,
        steps=1,
        blocks=2,
        warmup=1,
        against_torch=False,
        devices=None,
        processes=1,
    )
    return dataclasses.replace(request, **changes)


@pytest.mark.parametrize("kind", ["gar", pytest.param("nar", marks=pytest.mark.slow)])
def test_loop_step_and_twin_are_timed_and_their_work_is_that_of_the_batches(
    tmp_path, experiments, prepared_bundled, kind
):
    name = f"{experiments}:{kind}"
    point, found = measure_step(_request(name, prepared_bundled, tmp_path, against_torch=True))
    assert point.settings["experiment"] == name and point.settings["data"]["row_length"] == 256
    assert point.figures["compile_seconds"] > 0 and point.figures["peak_bytes"] > 50e6
    assert point.figures["peak_flops"] is None  # of CPUs no peak is known
    assert found["device"] == "cpu" and {"jax", "torch"} <= set(found["versions"])
    measures, experiment = point.measures, find_experiment(name)
    assert [len(one.seconds[0]) for one in measures.values()] == [2] * 5
    assert [one.ours for one in measures.values()] == [True, True, True, False, False]
    # One compiles and one warms up; the two behind them are timed.
    dataset = Dataset.open(prepared_bundled)
    timed = _batches(experiment, dataset, 4)[2:]
    frames = "is_frame" if kind == "nar" else None
    spoken = [
        batch[frames].sum() if frames else (batch["loss_mask"] & (batch["targets"] < 1024)).sum() for batch in timed
    ]
    lengths = [segment_lengths(batch["segment_ids"]) for batch in timed]
    targets = [int(batch["loss_mask"].sum()) for batch in timed]
    flops = gar_step_flops if kind == "gar" else nar_step_flops
    size = experiment.model.transformer
    for one in ("loop", "bare step"):
        assert measures[one].work["positions"] == 2 * 256
        assert measures[one].work["audio_seconds"] == pytest.approx(np.mean(spoken) / 75)
        expected = np.mean([flops(size, *both) for both in zip(lengths, targets, strict=True)])
        assert measures[one].work["model_flops"] == pytest.approx(expected)
    assert point.figures["real_share"] == pytest.approx(np.mean([np.mean(batch["segment_ids"] > 0) for batch in timed]))

    # Every fourth of the batches that the padded ones are made of.
    packed = _batches(experiment, dataset, 8)[::4]
    targets = [int(batch["loss_mask"].sum()) for batch in packed]
    lengths = [segment_lengths(batch["segment_ids"]) for batch in packed]
    expected = np.mean([flops(size, *both) for both in zip(lengths, targets, strict=True)])
    ours, theirs, padded = (measures[one] for one in ("ours, beside torch", "torch, packed", "torch, padded"))
    assert ours.work == theirs.work and ours.work["model_flops"] == pytest.approx(expected)
    assert 0.5 < point.figures["real_share_padded"] <= 1
    ratios = list(point.ratios.values())
    np.testing.assert_allclose(ratios[0][0], np.divide(theirs.seconds[0], ours.seconds[0]))
    more = ours.work["audio_seconds"] / padded.work["audio_seconds"]
    np.testing.assert_allclose(ratios[1][0], more * np.divide(padded.seconds[0], ours.seconds[0]))
    assert "AdamW f" in point.notes["torch"]


def test_the_command_measures_each_point_in_a_process_of_its_own_with_its_devices(tmp_path, capsys, experiments):
    file = tmp_path / "train.json"
    options = ["--experiment", f"{experiments}:gar", "--batch", "1", "--row-length", "512", "--devices", "2"]
    protocol = ["--steps", "1", "--blocks", "1", "--warmup", "0", "--json", str(file)]
    assert cli.main(["bench", "train", *options, *protocol]) == 0
    record = read_record(file)
    [point] = record.points
    assert point.settings["devices"] == 2 and point.settings["lies_on"] == {"data": 2, "fsdp": 1, "tensor": 1}
    # Weak: each device has the batch's rows.
    assert point.settings["data"]["batch_rows"] == 2 and point.measures["loop"].work["positions"] == 2 * 512
    assert 0 <= point.figures["others_share"] <= 1
    assert record.protocol["scaling"] == "weak" and record.environment["platform"] == "cpu"
    out = capsys.readouterr().out
    assert "1,000 synthetic utterances" in out and "bare step" in out


@pytest.mark.slow
def test_several_runs_over_devices_of_two_processes(tmp_path, experiments, prepared_bundled):
    options = StepOptions(experiment=f"{experiments}:gar", batch="4")
    file = tmp_path / "train.json"
    protocol = {"steps": 1, "blocks": 2, "warmup": 0, "runs": 2, "json": file}
    bench_train.run(options, prepared_bundled, devices="2,4", scaling="strong", processes=2, **protocol)
    points = read_record(file).points
    assert [point.label for point in points] == [{"devices": 2}, {"devices": 4}]
    for point in points:
        assert (point.settings["processes"], point.settings["devices"]) == (2, point.label["devices"])
        assert [len(run) for run in point.measures["loop"].seconds] == [2, 2]
        assert point.measures["loop"].work["positions"] == 4 * 256
    # The same rows, however they lie.
    assert points[0].measures["loop"].work == points[1].measures["loop"].work


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"blocks": 0}, "blocks is 0; expected 1 or more"),
        ({"runs": 0}, "runs is 0; expected 1 or more"),
        ({"warmup": -1}, "warmup is -1; expected 0 or more"),
        ({"devices": "2,x"}, "--devices 2,x: expected whole numbers"),
        ({"processes": 2}, "--devices None does not divide among --processes 2"),
        ({"processes": 2, "devices": "2,3"}, "does not divide among --processes 2"),
        ({"against": "torch", "devices": "2"}, "leave out --devices"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        bench_train.run(**options)


def test_what_is_no_float32_is_not_raced_with_torch(tmp_path, experiments, prepared_bundled):
    name = f"{experiments}:gar"
    experiment = with_transformer(find_experiment(name), dtype="bfloat16")
    with pytest.raises(InputError, match="this is bfloat16 on cpu; give --dtype float32"):
        measure_step(_request(name, prepared_bundled, tmp_path, experiment=experiment, against_torch=True))
