"""Rows of a prepared data set as fixed-shape arrays, and batches of them for a process: elastic, resumable, prefetched."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import grain
import jax
import numpy as np

from data_pipelines.packing import PackingPlan
from data_pipelines.records import Dataset, Record
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig, build_sequence, durations_behind_sequence
from ellav_jax.models.nar import NUM_LAYERS, NarConfig, nar_segment
from ellav_jax.vocabulary import PAD, Vocabulary

_ENDLESS = 1 << 62  # Grain asks for a length


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How rows and batches are made.

    row_length: positions of a row; utterances that do not fit are counted and left out. The default is for utterances of
    up to 25 s: rows of 4096 can be more than 99 % full of them, rows of 2048 only to 83 %.
    batch_rows: rows of a global batch, over all processes.
    """

    row_length: int = 4096
    batch_rows: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("row_length", 1), ("batch_rows", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, got {getattr(self, name)}")


class EndlessRows(Protocol):
    """Random access to endless rows: those of one split, or a mixture of them."""

    config: DataConfig

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


class Rows:
    """Random access to the endless rows of one split: `rows[i]` is a dict of arrays [row_length, …].

    `empty` is a row without utterances; `segment(record, epoch)` gives the arrays of one utterance, each of the length
    that lengths_N holds for it. Every row has int32 `segment_ids` (from 1; 0 is padding) and `positions` (from 0 in each),
    and uint32 `dropout_keys`: random bits, the same over an utterance, others in each epoch.
    """

    def __init__(
        self,
        records: Sequence[Record],
        lengths_N: np.ndarray,
        config: DataConfig,
        empty: dict[str, np.ndarray],
        segment: Callable[[Record, int], dict[str, np.ndarray]],
    ):
        self.plan = PackingPlan(lengths_N, config.row_length, config.seed)
        self.config = config
        self.empty = empty
        self._records = records
        self._segment = segment

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, utterances = self.plan.row(index)
        row = {name: array.copy() for name, array in self.empty.items()}
        start = 0
        for segment_id, utterance in enumerate(utterances.tolist(), start=1):
            record = self._records[utterance]
            arrays = self._segment(record, epoch)
            stop = start + len(arrays["loss_mask"])
            if stop - start != self.plan.lengths_N[utterance]:
                raise InputError(
                    f"{record.id}: {stop - start} positions, lengths.npz says {self.plan.lengths_N[utterance]}; "
                    "prepare the data set again"
                )
            for name, array in arrays.items():
                row[name][start:stop] = array
            row["segment_ids"][start:stop] = segment_id
            row["positions"][start:stop] = np.arange(stop - start)
            row["dropout_keys"][start:stop] = _random_bits(record, self.config.seed, epoch)[2] >> 32
            start = stop
        return row


def empty_row(kind: Literal["gar", "nar"], length: int) -> dict[str, np.ndarray]:
    """A row without utterances: names, shapes and dtypes of what a model is trained on."""
    common = {
        "loss_mask": np.zeros(length, bool),
        "segment_ids": np.zeros(length, np.int32),
        "positions": np.zeros(length, np.int32),
        "dropout_keys": np.zeros(length, np.uint32),
    }
    if kind == "gar":
        return {"inputs": np.full(length, PAD, np.int32), "targets": np.zeros(length, np.int32)} | common
    return {
        "phones": np.zeros(length, np.int32),
        "is_frame": np.zeros(length, bool),
        "codes": np.zeros((length, NUM_LAYERS), np.int32),
        "known": np.zeros(length, np.int32),
        "stage": np.full(length, 2, np.int32),
    } | common


def gar_rows(dataset: Dataset, split: str, config: DataConfig, layout: LayoutConfig) -> Rows:
    """Rows of hybrid sequences: int32 inputs and targets, bool loss_mask."""
    vocabulary = Vocabulary(len(dataset.frontend.phones))

    def segment(record: Record, epoch: int) -> dict[str, np.ndarray]:
        codes_T = record.codes_Tx8[:, 0]
        sequence = build_sequence(record.phones_N, record.durations_N, codes_T, layout, vocabulary)
        return {"inputs": sequence.inputs_L, "targets": sequence.targets_L, "loss_mask": sequence.loss_mask_L}

    lengths_N = layout.num_inputs(*dataset.lengths(split))
    return Rows(dataset.records(split), lengths_N, config, empty_row("gar", config.row_length), segment)


def nar_rows(
    dataset: Dataset, split: str, config: DataConfig, layout: LayoutConfig, model: NarConfig, stage: int | None = None
) -> Rows:
    """Rows of n phones, then T frames: the arrays of `NarInputs` and a bool loss_mask (frames behind the prompt).

    stage: None draws it for each utterance and epoch; a number fixes it (held-out losses by RVQ layer).
    """
    max_prompt_frames = round(model.max_prompt_seconds * dataset.info["codec"]["frame_rate"])

    def segment(record: Record, epoch: int) -> dict[str, np.ndarray]:
        drawn, prompt = draw_stage_and_prompt(record, config.seed, epoch, max_prompt_frames)
        durations_N = durations_behind_sequence(record.durations_N, layout.local_advance)
        arrays = nar_segment(record.phones_N, durations_N, record.codes_Tx8, prompt, stage or drawn)
        return arrays | {"loss_mask": np.arange(len(arrays["stage"])) >= record.num_phones + prompt}

    lengths_N = np.add(*dataset.lengths(split))
    return Rows(dataset.records(split), lengths_N, config, empty_row("nar", config.row_length), segment)


def draw_stage_and_prompt(record: Record, seed: int, epoch: int, max_prompt_frames: int) -> tuple[int, int]:
    """Stage, uniform in 2 … 8, and prompt length in frames: uniform up to the limit, cut at the phone boundary before it.

    A function of (seed, epoch, utterance id) alone, so neither packing nor mesh changes it. The last phone is no prompt.
    """
    first, second, *_ = _random_bits(record, seed, epoch)
    stage = 2 + first % (NUM_LAYERS - 1)
    limit = max_prompt_frames * second / 2**64
    boundaries = np.cumsum(record.durations_N[:-1])
    return stage, int(boundaries[boundaries <= limit].max(initial=0))


def _random_bits(record: Record, seed: int, epoch: int) -> list[int]:
    """Four numbers of 64 random bits, functions of (seed, epoch, utterance id) alone."""
    # A hash is a generator of random bits that no library's next version changes, and cheap to seed.
    digest = hashlib.sha256(f"{seed} {epoch} {record.id}".encode()).digest()
    return np.frombuffer(digest, "<u8").tolist()


def own_rows(sharding: jax.sharding.NamedSharding, batch_rows: int) -> np.ndarray:
    """Which rows of a global batch lie on this process's devices, in order, as `global_batch` wants them.

    A mesh that splits something else than rows over processes gives several processes the same ones.
    """
    slices = sharding.addressable_devices_indices_map((batch_rows,)).values()
    return np.unique(np.concatenate([np.arange(batch_rows)[rows] for (rows,) in slices]))


class Batches:
    """This process's rows of each global batch, in order, read ahead by threads.

    Global batch b is rows b · batch_rows … (b + 1) · batch_rows − 1 in this order, whichever process has which of them
    (`own`: places in the batch; all if not given). Its state is one number, the global index of the row that the next
    batch begins with: the same on every process, and good for any number of them.
    """

    def __init__(self, rows: EndlessRows, *, next_row: int = 0, own: Sequence[int] | np.ndarray | None = None):
        self.rows = rows
        self.next_row = next_row
        """Global index of the row that the next batch begins with."""
        own = range(rows.config.batch_rows) if own is None else own
        dataset = grain.MapDataset.source(_Strided(rows, next_row, own)).batch(len(own))
        # Threads share one interpreter: the second gains little on a local disk, and hides the wait for a remote one.
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        self._iterator = iter(dataset.to_iter_dataset(options))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """Arrays [own rows, row_length, …]."""
        batch = next(self._iterator)
        self.next_row += self.rows.config.batch_rows
        return batch

    def close(self) -> None:
        """Ends the reading threads."""
        self._iterator.close()


class _Strided:
    """The rows at places `own` of each batch from `next_row` on, one behind the other."""

    def __init__(self, rows: EndlessRows, next_row: int, own: Sequence[int] | np.ndarray):
        self._rows, self._next_row, self._own = rows, next_row, [int(place) for place in own]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        batch, place = divmod(index, len(self._own))
        return self._rows[self._next_row + batch * self._rows.config.batch_rows + self._own[place]]


def epoch_batches(rows: Rows, own: Sequence[int] | np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows (as in `Batches`) of epoch 0 once, in order, the last batch filled up with padding: for
    held-out evaluation."""
    batch_rows = rows.config.batch_rows
    places = range(batch_rows) if own is None else own
    for start in range(0, rows.plan.rows_per_epoch, batch_rows):
        indices = [start + int(place) for place in places]
        batch = [rows[index] if index < rows.plan.rows_per_epoch else rows.empty for index in indices]
        yield {name: np.stack([row[name] for row in batch]) for name in batch[0]}
