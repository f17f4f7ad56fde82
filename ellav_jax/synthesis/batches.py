"""Which sentences are computed together, and in which order they come out."""

import heapq
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

Result = TypeVar("Result")


def in_batches(shapes: Sequence[Hashable], batch_size: int) -> Iterator[list[int]]:
    """Places of sentences in batches of one shape each; a batch begins with the first sentence that is in none yet."""
    waiting = dict(enumerate(shapes))
    while waiting:
        shape = next(iter(waiting.values()))
        batch = [place for place, other in waiting.items() if other == shape][:batch_size]
        for place in batch:
            del waiting[place]
        yield batch


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Results with their places, in any order → the results in the order of places, each as soon as it can be given."""
    held: list[tuple[int, Result]] = []
    place = 0
    for one in results:
        heapq.heappush(held, one)
        while held and held[0][0] == place:
            yield heapq.heappop(held)[1]
            place += 1
