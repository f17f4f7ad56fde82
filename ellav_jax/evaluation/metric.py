"""What every metric takes, and what it gives: numbers of one utterance, and how they are summed up over many."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from ellav_jax.evaluation.bootstrap import Estimate, bootstrap_ratio


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """Speech to be judged: float32 [S] at `sample_rate` Hz, of which the first `given` samples are the prompt itself
    (continuation; 0 else).

    text, phones: what should be heard in all of it, silence left out of the phones. prompt_S: the voice, as the model was
    given it: decoded codes. finished: whether it ended by itself.
    """

    text: str
    phones: tuple[str, ...]
    waveform_S: np.ndarray
    sample_rate: int
    given: int
    prompt_S: np.ndarray
    finished: bool

    @property
    def spoken_S(self) -> np.ndarray:
        """What stands behind the prompt."""
        return self.waveform_S[self.given :]


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of the report: scale · Σ numerator / Σ denominator over utterances; the denominator None stands for ones.

    numerator, denominator: names of values that a metric measures; an utterance that lacks one, or has None, has no say.
    interval: whether resampling utterances tells anything (a clock's readings depend on what ran beside).
    """

    title: str
    meaning: str
    numerator: str
    denominator: str | None
    scale: float
    digits: int
    better: Literal["lower", "higher", "neither"]
    interval: bool = True

    def estimate(self, results: Sequence[Mapping[str, Any]]) -> Estimate | None:
        """Of utterances' values, scaled; None where no utterance has any."""
        pairs = [
            (one.get(self.numerator), 1 if self.denominator is None else one.get(self.denominator)) for one in results
        ]
        counted_Ux2 = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        found = bootstrap_ratio(self.scale * counted_Ux2[:, 0], counted_Ux2[:, 1])
        if found is None or self.interval:
            return found
        return dataclasses.replace(found, low=found.value, high=found.value)


class Metric(Protocol):
    """Judges one utterance at a time. `name` tells it from all others, its model included."""

    name: str
    columns: Sequence[Column]

    def measure(self, heard: Heard) -> Mapping[str, Any]:
        """JSON values by name, those of its columns among them."""
