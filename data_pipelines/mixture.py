"""Rows of several data sets in fixed shares, with random access."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from data_pipelines.loader import Rows
from ellav_jax.errors import InputError


class MixedRows:
    """Whole rows drawn from several data sets: `weights` in proportion, by default so that their epochs end together.

    A row has the same number of positions wherever it comes from, so weights are shares of positions. Which data set a
    row comes from, and which of its own rows it is, follows from the row's index by arithmetic on whole numbers: no
    state, and after any number of rows each data set stands within a few rows of its share. Each keeps its own epochs.
    Raises InputError for a weight that is not above 0.
    """

    def __init__(self, parts: Sequence[Rows], weights: Sequence[Fraction] | None = None):
        self.parts = tuple(parts)
        self.config = parts[0].config
        weights = [Fraction(part.plan.rows_per_epoch) for part in parts] if weights is None else weights
        if min(weights) <= 0:
            raise InputError(f"a data set has the weight {float(min(weights)):g}; expected more than 0")
        self.shares = tuple(weight / sum(weights) for weight in weights)
        """Exact share of each data set; they sum to 1."""
        scale = math.lcm(*(share.denominator for share in self.shares))
        self._weights = [int(share * scale) for share in self.shares]

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        part, own_index = self.locate(index)
        return self.parts[part][own_index]

    def locate(self, index: int) -> tuple[int, int]:
        """→ which data set row `index` comes from, and its index among that data set's own endless rows."""
        # Of any first m rows, floor(m · others / total) are left to the data sets behind the one looked at.
        begin, end, total = index, index + 1, sum(self._weights)
        for part, weight in enumerate(self._weights[:-1]):
            others_begin, others_end = (m * (total - weight) // total for m in (begin, end))
            if others_begin == others_end:
                return part, begin - others_begin
            begin, end, total = others_begin, others_end, total - weight
        return len(self._weights) - 1, begin
