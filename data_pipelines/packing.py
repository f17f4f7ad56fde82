"""Lengths → a packing plan: which utterances share a row, for every epoch, by arithmetic alone.

The plan is made of row *shapes* (the lengths that stand in a row), found once from the histogram of lengths; in each epoch
the utterances of a length are permuted among its places and the rows shuffled. So the number of rows an epoch is constant,
and index → (epoch, row) → utterances needs no state: random access, exact resume and any number of processes follow.
Histogram packing is in the manner of Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination" (SPFHP).

Processes that share a run must make the same plan, on any machine and with any NumPy. So random bits are those of a bit
generator (NumPy promises that they stay; it does not for `permutation` and the like), and all sorts are stable.
"""

import bisect
import threading

import numpy as np

from ellav_jax.errors import InputError


def pack_histogram(lengths_N: np.ndarray, row_length: int) -> list[tuple[tuple[int, ...], int]]:
    """Shapes of rows and how many rows have each, longest lengths first, each put where it leaves the least room.

    Best-fit decreasing on counts of equal lengths: its time depends on the number of distinct lengths and not on that of
    utterances. Every length must fit a row.
    """
    counts_L = np.bincount(lengths_N, minlength=1)
    open_rows: dict[int, list[tuple[tuple[int, ...], int]]] = {}  # room left → shapes with that room
    rooms: list[int] = []  # its keys, sorted
    for length in np.flatnonzero(counts_L)[::-1].tolist():
        count = int(counts_L[length])
        placed: list[tuple[tuple[int, ...], int]] = []
        while count:
            at = bisect.bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms[at]
                shape, rows = open_rows[room].pop()
                if not open_rows[room]:
                    del open_rows[room], rooms[at]
            else:
                room, shape, rows = row_length, (), count
            fits = min(room // length, count)
            used = min(rows, count // fits)
            if used < rows and shape:
                _open(open_rows, rooms, room, shape, rows - used)
            placed.append(((*shape, *[length] * fits), used))
            count -= used * fits
        for shape, rows in placed:
            _open(open_rows, rooms, row_length - sum(shape), shape, rows)
    return [entry for room in rooms for entry in open_rows[room]]


def _open(open_rows: dict, rooms: list[int], room: int, shape: tuple[int, ...], rows: int) -> None:
    if room not in open_rows:
        open_rows[room] = []
        bisect.insort(rooms, room)
    open_rows[room].append((shape, rows))


class PackingPlan:
    """Rows of `row_length` positions over utterances of lengths_N (int32 [N]) positions each. Safe in threads.

    rows_per_epoch: rows in each epoch. too_long: utterances longer than a row; they are left out, never cut.
    fill: share of the rows' positions that carry an utterance.
    Raises InputError if no utterance fits a row.
    """

    def __init__(self, lengths_N: np.ndarray, row_length: int, seed: int):
        fits_N = lengths_N <= row_length
        # Indices are int32: 2 billion utterances would be 800 years of speech.
        self._fitting_P = np.flatnonzero(fits_N).astype(np.int32)
        if not len(self._fitting_P):
            shortest = int(lengths_N.min()) if len(lengths_N) else 0
            raise InputError(
                f"no utterance fits a row of {row_length} positions (the shortest of {len(lengths_N)} has "
                f"{shortest}); raise --data.row-length"
            )
        self.lengths_N, self.row_length, self.seed = lengths_N, row_length, seed
        self.too_long = len(lengths_N) - len(self._fitting_P)
        shapes = pack_histogram(lengths_N[fits_N], row_length)
        rows_S = np.array([rows for _, rows in shapes])
        self.rows_per_epoch = int(rows_S.sum())
        self._ends_R = np.cumsum(np.repeat([len(shape) for shape, _ in shapes], rows_S), dtype=np.int32)
        # The rows' places, one behind the other, in order of length: where an epoch's utterances, in that order, go.
        # NumPy's stable sort takes linear time for 16 bits.
        dtype = np.uint16 if row_length < 1 << 16 else np.int32
        lengths_P = np.concatenate([np.tile(np.array(shape, dtype), rows) for shape, rows in shapes])
        self._places_P = np.argsort(lengths_P, kind="stable").astype(np.int32)
        self.fill = int(lengths_P.sum(dtype=np.int64)) / (self.rows_per_epoch * row_length)
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()

    def row(self, index: int) -> tuple[int, np.ndarray]:
        """Row `index` of the endless sequence of epochs → (epoch, indices of its utterances, int32)."""
        epoch, place = divmod(index, self.rows_per_epoch)
        utterances_P, order_R = self._epoch(epoch)
        row = order_R[place]
        return epoch, utterances_P[self._ends_R[row - 1] if row else 0 : self._ends_R[row]]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """→ utterances in the order of the rows' places [P], and the order of rows [R]."""
        # Threads that meet at the beginning of an epoch must not each permute millions of utterances.
        with self._lock:
            if epoch not in self._epochs:
                for old in [*self._epochs][:-1]:  # two epochs meet at a boundary
                    del self._epochs[old]
                self._epochs[epoch] = self._permute(epoch)
            return self._epochs[epoch]

    def _permute(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random_bits = np.random.PCG64(np.random.SeedSequence([self.seed, epoch])).random_raw
        # Sorted by length and, within a length, by random bits.
        length_bits = self.row_length.bit_length()
        keys_P = random_bits(len(self._fitting_P)) >> np.uint64(length_bits)
        keys_P |= self.lengths_N[self._fitting_P].astype(np.uint64) << np.uint64(64 - length_bits)
        utterances_P = np.empty_like(self._fitting_P)
        utterances_P[self._places_P] = self._fitting_P[np.argsort(keys_P, kind="stable")]
        return utterances_P, np.argsort(random_bits(self.rows_per_epoch), kind="stable").astype(np.int32)
