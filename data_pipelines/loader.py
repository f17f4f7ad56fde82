"""Rows of a prepared data set as fixed-shape arrays, and batches of them for a process: elastic, resumable, prefetched."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from data_pipelines.packing import PackingPlan
from data_pipelines.records import Dataset, Record
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig, advance_durations, build_sequence, restore_durations
from ellav_jax.models.nar import NUM_LAYERS, NarConfig, nar_segment
from ellav_jax.vocabulary import PAD, Vocabulary

_MANY_EPOCHS = 1 << 32  # rows are endless; Grain asks for a length


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How rows and batches are made.

    row_length: positions of a row; utterances that do not fit are counted and left out.
    batch_rows: rows of a global batch, over all processes.
    """

    row_length: int = 2048
    batch_rows: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("row_length", 1), ("batch_rows", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, got {getattr(self, name)}")


class Rows:
    """Random access to the endless rows of one split: `rows[i]` is a dict of arrays [row_length, …].

    `padding` is a row without utterances; `segment(record, epoch)` gives the arrays of one utterance, each of the length
    that lengths_N holds for it. Every row has int32 `segment_ids` (from 1; 0 is padding) and `positions` (from 0 in each).
    """

    def __init__(
        self,
        records: Sequence[Record],
        lengths_N: np.ndarray,
        config: DataConfig,
        padding: dict[str, np.ndarray],
        segment: Callable[[Record, int], dict[str, np.ndarray]],
    ):
        self.plan = PackingPlan(lengths_N, config.row_length, config.seed)
        self.config = config
        self.padding = padding | {name: np.zeros(config.row_length, np.int32) for name in ("segment_ids", "positions")}
        self._records = records
        self._segment = segment

    def __len__(self) -> int:
        return self.plan.rows_per_epoch * _MANY_EPOCHS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, utterances = self.plan.row(index)
        row = {name: array.copy() for name, array in self.padding.items()}
        start = 0
        for segment_id, utterance in enumerate(utterances.tolist(), start=1):
            stop = start + int(self.plan.lengths_N[utterance])
            for name, array in self._segment(self._records[utterance], epoch).items():
                row[name][start:stop] = array
            row["segment_ids"][start:stop] = segment_id
            row["positions"][start:stop] = np.arange(stop - start)
            start = stop
        return row


def gar_rows(dataset: Dataset, split: str, config: DataConfig, layout: LayoutConfig) -> Rows:
    """Rows of hybrid sequences: int32 inputs and targets, bool loss_mask."""
    vocabulary = Vocabulary(len(dataset.frontend.phones))
    padding = {
        "inputs": np.full(config.row_length, PAD, np.int32),
        "targets": np.zeros(config.row_length, np.int32),
        "loss_mask": np.zeros(config.row_length, bool),
    }

    def segment(record: Record, epoch: int) -> dict[str, np.ndarray]:
        codes_T = record.codes_Tx8[:, 0]
        sequence = build_sequence(record.phones_N, record.durations_N, codes_T, layout, vocabulary)
        return {"inputs": sequence.inputs_L, "targets": sequence.targets_L, "loss_mask": sequence.loss_mask_L}

    lengths_N = layout.num_inputs(*dataset.lengths(split))
    return Rows(dataset.records(split), lengths_N, config, padding, segment)


def nar_rows(
    dataset: Dataset, split: str, config: DataConfig, layout: LayoutConfig, model: NarConfig, stage: int | None = None
) -> Rows:
    """Rows of n phones, then T frames: the arrays of `NarInputs` and a bool loss_mask (frames behind the prompt).

    stage: None draws it for each utterance and epoch; a number fixes it (held-out losses by RVQ layer).
    """
    max_prompt_frames = round(model.max_prompt_seconds * dataset.info["codec"]["frame_rate"])
    length = config.row_length
    padding = {
        "phones": np.zeros(length, np.int32),
        "is_frame": np.zeros(length, bool),
        "codes": np.zeros((length, NUM_LAYERS), np.int32),
        "known": np.zeros(length, np.int32),
        "stage": np.full(length, 2, np.int32),
        "loss_mask": np.zeros(length, bool),
    }

    def segment(record: Record, epoch: int) -> dict[str, np.ndarray]:
        drawn, prompt = draw_stage_and_prompt(record, config.seed, epoch, max_prompt_frames)
        # The phone track that synthesis will have: durations as they come back from the sequence.
        durations_N = restore_durations(
            advance_durations(record.durations_N, layout.local_advance), layout.local_advance
        )
        arrays = nar_segment(record.phones_N, durations_N, record.codes_Tx8, prompt, stage or drawn)
        return arrays | {"loss_mask": np.arange(len(arrays["stage"])) >= record.num_phones + prompt}

    return Rows(dataset.records(split), np.add(*dataset.lengths(split)), config, padding, segment)


def draw_stage_and_prompt(record: Record, seed: int, epoch: int, max_prompt_frames: int) -> tuple[int, int]:
    """Stage, uniform in 2 … 8, and prompt length in frames: uniform up to the limit, cut at the phone boundary before it.

    A function of (seed, epoch, utterance id) alone, so neither packing nor mesh changes it. The last phone is no prompt.
    """
    digest = hashlib.sha256(record.id.encode()).digest()
    rng = np.random.default_rng([seed, epoch, int.from_bytes(digest[:8], "little")])
    stage = int(rng.integers(2, NUM_LAYERS + 1))
    limit = rng.uniform(0, max_prompt_frames)
    boundaries = np.cumsum(record.durations_N[:-1])
    return stage, int(boundaries[boundaries <= limit].max(initial=0))


class Batches:
    """This process's part of each global batch, in order, read ahead by threads.

    Its state is one number, the global index of the row that the next batch begins with: the same on every process, and
    good for any number of them.
    """

    def __init__(self, rows: Rows, *, next_row: int = 0, process_index: int = 0, process_count: int = 1):
        if rows.config.batch_rows % process_count:
            raise InputError(
                f"--data.batch-rows {rows.config.batch_rows} must be a multiple of {process_count} processes"
            )
        self.rows = rows
        self._iterator = grain.experimental.ElasticIterator(
            grain.MapDataset.source(rows),
            rows.config.batch_rows,
            grain.sharding.ShardOptions(process_index, process_count),
            read_options=grain.ReadOptions(num_threads=2, prefetch_buffer_size=4),
        )
        self._iterator.set_state({"global_next_index": next_row})

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """Arrays [batch_rows / processes, row_length, …]."""
        return next(self._iterator)

    @property
    def next_row(self) -> int:
        """Global index of the row that the next batch begins with."""
        return self._iterator.get_state()["global_next_index"]

    def close(self) -> None:
        """Ends the reading threads."""
        self._iterator.close()


def epoch_batches(rows: Rows, *, process_index: int = 0, process_count: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """This process's part of epoch 0 once, in order, the last batch filled up with padding: for held-out evaluation."""
    batch_rows = rows.config.batch_rows
    for start in range(0, rows.plan.rows_per_epoch, batch_rows):
        stop = min(start + batch_rows, rows.plan.rows_per_epoch)
        batch = [rows[i] for i in range(start, stop)] + [rows.padding] * (batch_rows - (stop - start))
        batch = batch[process_index::process_count]
        yield {name: np.stack([row[name] for row in batch]) for name in batch[0]}
