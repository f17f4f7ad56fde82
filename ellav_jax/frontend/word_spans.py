"""Which phones of a sentence or recording belong to which word."""

import dataclasses
from collections.abc import Sequence

from ellav_jax.frontend.inventory import SIL


@dataclasses.dataclass(frozen=True)
class WordSpan:
    """A word as it is spoken, and its phones: from `begin` up to and without `end`, no SIL among them."""

    text: str
    begin: int
    end: int

    def moved(self, by: int) -> "WordSpan":
        """The same word, `by` phones later."""
        return WordSpan(self.text, self.begin + by, self.end + by)


@dataclasses.dataclass(frozen=True)
class PhonedText:
    """Phone names of a text, and its words in their order; what is in no word is SIL."""

    phones: tuple[str, ...]
    words: tuple[WordSpan, ...] = ()

    def without_first(self) -> "PhonedText":
        """Without its first phone, which is in no word."""
        return PhonedText(self.phones[1:], tuple(word.moved(-1) for word in self.words))


def match_words(
    phones: Sequence[str], words: Sequence[tuple[str, Sequence[tuple[str, ...]]]]
) -> tuple[WordSpan, ...] | None:
    """Finds words in an aligner's phones, among which SIL may stand anywhere between words.

    words: of each its text and the pronunciations that it may have. None when the phones are not those of these words.
    """
    spoken = [index for index, phone in enumerate(phones) if phone != SIL]
    names = tuple(phones[index] for index in spoken)
    # reached[w]: at which phones word w may begin, and how many phones the word before it had then.
    reached: list[dict[int, int]] = [{0: 0}]
    for _, pronunciations in words:
        ends = {}
        for begin in reached[-1]:
            for one in pronunciations:
                if names[begin : begin + len(one)] == tuple(one):
                    ends[begin + len(one)] = len(one)
        reached.append(ends)
    if len(names) not in reached[-1]:
        return None
    spans, end = [], len(names)
    for (text, _), ends in zip(reversed(words), reversed(reached), strict=False):
        begin = end - ends[end]
        spans.append(WordSpan(text, spoken[begin], spoken[end - 1] + 1))
        end = begin
    return tuple(reversed(spans))
