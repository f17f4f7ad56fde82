"""Rows of the prepared bundled clips read back into their records, and batches that resume on any number of processes."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from data_pipelines.loader import (
    Batches,
    DataConfig,
    draw_stage_and_prompt,
    epoch_batches,
    gar_rows,
    nar_rows,
    own_rows,
)
from data_pipelines.records import Dataset
from data_pipelines.synthetic import write_synthetic
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import HybridSequence, LayoutConfig, advance_durations, parse_sequence, restore_durations
from ellav_jax.models.nar import NarConfig
from ellav_jax.sharding import MeshConfig, ShardingRules, make_mesh

DATA = DataConfig(row_length=512, batch_rows=2)
LAYOUTS = [
    LayoutConfig(),
    LayoutConfig(order="paper", local_advance=2),
    LayoutConfig(global_advance=False, local_advance=3),
    LayoutConfig(order="valle"),
]


@pytest.fixture(scope="module")
def dataset(prepared_bundled):
    return Dataset.open(prepared_bundled)


def _segments(row):
    """The arrays of each segment of a row; checks ids, positions and that padding is what the row's padding is."""
    ids = row["segment_ids"]
    for segment in range(1, ids.max() + 1):
        at = np.flatnonzero(ids == segment)
        assert np.array_equal(at, np.arange(at[0], at[-1] + 1))
        assert np.array_equal(row["positions"][at], np.arange(len(at)))
        yield {name: array[at] for name, array in row.items()}


def _one_epoch(rows):
    for row in itertools.islice((rows[i] for i in itertools.count()), rows.plan.rows_per_epoch):
        padding = row["segment_ids"] == 0
        for name, array in rows.empty.items():
            assert np.array_equal(row[name][padding], array[padding])
            assert row[name].dtype == array.dtype
        assert not row["loss_mask"][padding].any()
        yield from _segments(row)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.order}-{layout.local_advance}")
def test_gar_rows_parse_back_into_the_records(dataset, layout):
    rows = gar_rows(dataset, "train", DATA, layout)
    found = collections.Counter()
    for segment in _one_epoch(rows):
        sequence = HybridSequence(segment["inputs"], segment["targets"], segment["loss_mask"])
        phones, _, codes = parse_sequence(sequence, layout)
        found[phones.tobytes(), codes.tobytes()] += 1
    records = [dataset.records("train")[i] for i in np.flatnonzero(rows.plan.lengths_N <= DATA.row_length)]
    wanted = [(r.phones_N.astype(np.int32), r.codes_Tx8[:, 0].astype(np.int32)) for r in records]
    assert found == collections.Counter((phones.tobytes(), codes.tobytes()) for phones, codes in wanted)
    assert rows.plan.too_long == len(rows.plan.lengths_N) - len(records) > 0


@pytest.mark.parametrize("local_advance", [0, 3])
def test_nar_rows_hold_phones_frames_and_what_a_stage_may_know(dataset, local_advance):
    layout = LayoutConfig(local_advance=local_advance)
    rows = nar_rows(dataset, "train", DATA, layout, NarConfig())
    by_codes = {record.codes_Tx8.tobytes(): record for record in dataset.records("train")}
    seen, stages = set(), set()
    for segment in _one_epoch(rows):
        n = int(np.sum(~segment["is_frame"]))
        assert not segment["is_frame"][:n].any()
        record = by_codes[segment["codes"][n:].astype(np.uint16).tobytes()]
        seen.add(record.id)
        stage, prompt = draw_stage_and_prompt(record, DATA.seed, 0, 225)
        stages.add(stage)
        durations = restore_durations(advance_durations(record.durations_N, local_advance), local_advance)
        assert segment["phones"][:n].tolist() == record.phones_N.tolist()
        assert segment["phones"][n:].tolist() == np.repeat(record.phones_N, durations).tolist()
        assert not segment["codes"][:n].any()
        assert set(segment["stage"]) == {stage}
        expected_known = [0] * n + [8] * prompt + [stage - 1] * (record.num_frames - prompt)
        assert segment["known"].tolist() == expected_known
        assert segment["loss_mask"].tolist() == [False] * (n + prompt) + [True] * (record.num_frames - prompt)
    assert len(seen) == len(rows.plan.lengths_N) - rows.plan.too_long
    assert len(stages) > 2


def test_a_fixed_stage_is_that_of_every_utterance(dataset):
    for segment in _one_epoch(nar_rows(dataset, "test", DATA, LayoutConfig(), NarConfig(), stage=6)):
        assert set(segment["stage"]) == {6}


def test_stage_and_prompt_depend_on_seed_epoch_and_id_alone(dataset):
    records = list(dataset.records("train"))
    drawn = {
        (seed, epoch): [draw_stage_and_prompt(record, seed, epoch, 225) for record in records]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    }
    assert drawn[0, 0] == [draw_stage_and_prompt(record, 0, 0, 225) for record in records]
    assert len({tuple(values) for values in drawn.values()}) == 3
    # Another packing and order of rows leaves them as they are.
    by_phones = []
    for row_length in (512, 700):
        config = DataConfig(row_length=row_length, batch_rows=2)
        segments = _one_epoch(nar_rows(dataset, "test", config, LayoutConfig(), NarConfig()))
        by_phones.append({s["codes"].tobytes(): (s["stage"][0], int(np.sum(s["known"] == 8))) for s in segments})
    assert by_phones[0] == by_phones[1]


def test_stages_are_uniform_and_prompts_end_at_a_phone_boundary_within_the_limit(dataset):
    record = max(dataset.records("train"), key=lambda record: record.num_frames)
    drawn = [draw_stage_and_prompt(record, 0, epoch, 225) for epoch in range(1400)]
    counts = collections.Counter(stage for stage, _ in drawn)
    assert set(counts) == set(range(2, 9))
    assert all(abs(count - 200) < 5 * np.sqrt(200 * 6 / 7) for count in counts.values())
    boundaries = {0, *np.cumsum(record.durations_N[:-1]).tolist()}
    prompts = np.array([prompt for _, prompt in drawn])
    assert set(prompts.tolist()) <= boundaries
    assert prompts.max() <= 225
    gap = max(np.diff(sorted(b for b in boundaries if b <= 225)))
    assert abs(np.mean(prompts) - 112.5) < gap / 2 + 5 * 65 / np.sqrt(1400)


def test_an_utterance_of_one_phone_has_no_prompt(dataset):
    record = dataset.records("train")[0]
    one = dataclasses.replace(record, phones_N=record.phones_N[:1], durations_N=np.array([record.num_frames], np.int32))
    assert all(draw_stage_and_prompt(one, 0, epoch, 225)[1] == 0 for epoch in range(20))


def test_lengths_that_are_not_those_of_the_records_are_noticed(tmp_path):
    path = write_synthetic(tmp_path / "data", 3, shards=1).path
    with np.load(path / "lengths.npz") as file:
        lengths = dict(file)
    frames = lengths["train/frames"]
    np.savez(path / "lengths.npz", **(lengths | {"train/frames": frames - 1}))
    config = DataConfig(row_length=2560, batch_rows=1)
    for rows in (
        gar_rows(Dataset.open(path), "train", config, LayoutConfig()),
        nar_rows(Dataset.open(path), "train", config, LayoutConfig(), NarConfig()),
    ):
        with pytest.raises(InputError, match=r"synthetic-0-\d+: (\d+) positions, lengths.npz says \d+; prepare"):
            rows[0]


def _take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def _assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_batches_are_the_rows_in_order_and_resume_at_any_row(dataset):
    rows = nar_rows(dataset, "train", DATA, LayoutConfig(), NarConfig())
    epochs_apart = 2 * rows.plan.rows_per_epoch + 1
    whole = _take(Batches(rows), epochs_apart // 2 + 2)
    for index, batch in enumerate(whole):
        expected = [rows[2 * index], rows[2 * index + 1]]
        _assert_same(batch, {name: np.stack([row[name] for row in expected]) for name in expected[0]})
    batches = Batches(rows)
    assert batches.next_row == 0
    next(batches), next(batches)
    assert batches.next_row == 4  # what is read ahead does not count
    batches.close()
    resumed = Batches(rows, next_row=4)
    assert resumed.next_row == 4
    for batch in whole[2:]:
        _assert_same(next(resumed), batch)
    resumed.close()


@pytest.mark.parametrize("parts", [[[0, 1], [2, 3]], [[1, 2], [0, 3]], [[0, 2], [0, 2], [1, 3]]])
def test_each_process_reads_its_own_rows_of_each_batch(dataset, parts):
    rows = gar_rows(dataset, "train", DataConfig(row_length=512, batch_rows=4), LayoutConfig())
    one = _take(Batches(rows), 5)
    for start in (0, 8):  # from the beginning, and resumed where one process stood after two batches
        for own in parts:
            taken = _take(Batches(rows, next_row=start, own=own), 3)
            for batch, part in zip(one[start // 4 : start // 4 + 3], taken, strict=True):
                _assert_same(part, {name: array[own] for name, array in batch.items()})


def test_the_state_does_not_depend_on_how_many_rows_are_a_processs_own(dataset):
    rows = gar_rows(dataset, "train", DataConfig(row_length=512, batch_rows=4), LayoutConfig())
    positions = []
    for own in (None, [2, 3], [1]):
        batches = Batches(rows, next_row=4, own=own)
        next(batches), next(batches)
        positions.append(batches.next_row)
        batches.close()
    assert positions == [12, 12, 12]


def test_the_rows_on_this_processs_devices_are_its_own():
    sharding = ShardingRules().of_batch(make_mesh(MeshConfig()), 6)
    assert own_rows(sharding, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_held_out_batches_are_one_epoch_with_padding_behind(dataset):
    rows = gar_rows(dataset, "test", DataConfig(row_length=256, batch_rows=4), LayoutConfig())
    batches = list(epoch_batches(rows))
    for own in ([0, 1], [2, 3], [3]):
        for whole, part in zip(batches, epoch_batches(rows, own), strict=True):
            _assert_same(part, {name: array[own] for name, array in whole.items()})
    assert len(batches) == -(-rows.plan.rows_per_epoch // 4)
    assert all(batch["inputs"].shape == (4, 256) for batch in batches)
    assert sum(batch["loss_mask"].sum() for batch in batches) == sum(
        LayoutConfig().num_targets(record.num_phones, record.num_frames)
        for record, length in zip(dataset.records("test"), rows.plan.lengths_N, strict=True)
        if length <= 256
    )


@pytest.mark.parametrize("name, value", [("row_length", 0), ("batch_rows", 0), ("seed", -1)])
def test_numbers_that_make_no_rows_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} must be"):
        DataConfig(**{name: value})
