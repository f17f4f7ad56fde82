"""Lengths → a packing plan: which utterances share a row, for every epoch, by arithmetic alone.

The plan is made of row *shapes* (the lengths that stand in a row), found once from the histogram of lengths; in each epoch
the utterances of a length are permuted among its places and the rows shuffled. So the number of rows an epoch is constant,
and index → (epoch, row) → utterances needs no state: random access, exact resume and any number of processes follow.
Histogram packing is in the manner of Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination" (SPFHP).
"""

import bisect
import dataclasses
import functools

import numpy as np

from ellav_jax.errors import InputError


def pack_histogram(lengths_N: np.ndarray, row_length: int) -> list[tuple[tuple[int, ...], int]]:
    """Shapes of rows and how many rows have each, longest lengths first, each put where it leaves the least room.

    Works on counts of equal lengths, so its time depends on the number of distinct lengths and not on that of utterances.
    Every length must fit a row.
    """
    lengths, counts = np.unique(lengths_N, return_counts=True)
    open_rows: dict[int, list[tuple[tuple[int, ...], int]]] = {}  # room left → shapes with that room
    rooms: list[int] = []  # its keys, sorted
    for length, count in zip(lengths[::-1].tolist(), counts[::-1].tolist(), strict=True):
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


@dataclasses.dataclass(frozen=True, eq=False)
class PackingPlan:
    """Rows of `row_length` positions over utterances of lengths_N [N] positions.

    Utterances longer than a row are left out, counted in `too_long` and never cut. Raises InputError if none fits.
    """

    lengths_N: np.ndarray
    row_length: int
    seed: int

    def __post_init__(self) -> None:
        if not np.any(self.lengths_N <= self.row_length):
            shortest = int(self.lengths_N.min()) if len(self.lengths_N) else 0
            raise InputError(
                f"no utterance fits a row of {self.row_length} positions (the shortest of {len(self.lengths_N)} has "
                f"{shortest}); raise --data.row-length"
            )

    @functools.cached_property
    def too_long(self) -> int:
        """How many utterances do not fit a row."""
        return int(np.sum(self.lengths_N > self.row_length))

    @functools.cached_property
    def _ends_R(self) -> np.ndarray:
        return np.cumsum([len(shape) for shape, rows in self._shapes for _ in range(rows)])

    @functools.cached_property
    def _shapes(self) -> list[tuple[tuple[int, ...], int]]:
        return pack_histogram(self.lengths_N[self.lengths_N <= self.row_length], self.row_length)

    @functools.cached_property
    def rows_per_epoch(self) -> int:
        """Rows in each epoch."""
        return sum(rows for _, rows in self._shapes)

    @property
    def fill(self) -> float:
        """Share of the rows' positions that carry an utterance."""
        used = self.lengths_N[self.lengths_N <= self.row_length].sum()
        return float(used) / (self.rows_per_epoch * self.row_length)

    @functools.lru_cache(maxsize=2)  # noqa: B019 (a plan lives as long as its run; two epochs meet at a boundary)
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """→ utterances [N] in the order of the shapes' places, and the order of rows [R]."""
        rng = np.random.default_rng([self.seed, epoch])
        places = np.concatenate([np.tile(shape, rows) for shape, rows in self._shapes])
        utterances = np.empty(len(places), np.int64)
        # Stable sorts bring equal lengths together on both sides; the shuffle first makes which one meets which random.
        shuffled = rng.permutation(np.flatnonzero(self.lengths_N <= self.row_length))
        utterances[np.argsort(places, kind="stable")] = shuffled[np.argsort(self.lengths_N[shuffled], kind="stable")]
        return utterances, rng.permutation(self.rows_per_epoch)

    def row(self, index: int) -> tuple[int, np.ndarray]:
        """Row `index` of the endless sequence of epochs → (epoch, indices of its utterances)."""
        epoch, place = divmod(index, self.rows_per_epoch)
        utterances, order = self._epoch(epoch)
        row = order[place]
        return epoch, utterances[self._ends_R[row - 1] if row else 0 : self._ends_R[row]]
