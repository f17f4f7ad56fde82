"""Edit distance between what was to be said and what was heard, by jiwer."""

import dataclasses
from collections.abc import Sequence

import jiwer


@dataclasses.dataclass(frozen=True)
class EditCounts:
    """Of the least number of edits that make what was heard of `length` items that were to be said.

    lost_tail: how many of the last items were deleted, none behind them heard.
    """

    length: int
    substitutions: int
    deletions: int
    insertions: int
    lost_tail: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def count_edits(wanted: Sequence[str], heard: Sequence[str]) -> EditCounts:
    """Counts over words, phones or characters: any items without white space in them.

    Where several alignments have as few edits, jiwer's choice decides which kinds they are.
    """
    if not wanted or not heard:  # which jiwer doesn't take
        return EditCounts(len(wanted), 0, len(wanted), len(heard), len(wanted))
    output = jiwer.process_words(" ".join(wanted), " ".join(heard))
    last = output.alignments[0][-1]
    lost = last.ref_end_idx - last.ref_start_idx if last.type == "delete" else 0
    return EditCounts(len(wanted), output.substitutions, output.deletions, output.insertions, lost)


def place_behind(place: int, ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Where in `theirs` the items stand that follow the first `place` of `ours`, by the alignment of both.

    Items that only `theirs` has at that place count as following.
    """
    if place == 0 or not theirs:
        return 0
    for chunk in jiwer.process_words(" ".join(theirs), " ".join(ours)).alignments[0]:
        if chunk.hyp_end_idx >= place > chunk.hyp_start_idx:
            return min(chunk.ref_start_idx + place - chunk.hyp_start_idx, chunk.ref_end_idx)
    raise ValueError(f"place {place} is not within {len(ours)} items")
