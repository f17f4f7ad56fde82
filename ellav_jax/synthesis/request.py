"""SpeechRequest: a sentence to speak, and what is asked of its phones."""

import dataclasses
from collections.abc import Sequence

from ellav_jax.errors import InputError
from ellav_jax.frontend.word_spans import WordSpan
from ellav_jax.synthesis.prompts import Prompt

SLOWEST, FASTEST = 0.25, 4.0


@dataclasses.dataclass(frozen=True, eq=False)
class SpeechRequest:
    """Phones to speak in a prompt's voice.

    phones: names [N]. words: which of them are which word's, for the TextGrid of what is spoken.
    floors, caps: least and most frames of each phone in the audio [N]; None, for all or for one, where the
    synthesizer's limits hold. A phone whose floor is its cap gets just these frames.
    speed: above 1 faster. The sentence is decoded once, its durations are divided by the speed (those that floor and cap
    fix are kept), and it is decoded again with them, as no model of durations is at hand.
    seed: of this sentence; None: that of the sampling. Raises InputError for values that can't be met.
    """

    prompt: Prompt
    phones: Sequence[str]
    words: tuple[WordSpan, ...] = ()
    floors: Sequence[int | None] | None = None
    caps: Sequence[int | None] | None = None
    speed: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.phones:
            raise InputError("no phones to speak; expected at least one")
        for name in ("floors", "caps"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != len(self.phones):
                raise InputError(f"{len(values)} {name} for {len(self.phones)} phones; expected one for each (or None)")
            for index, value in enumerate(values):
                if value is not None and value < 1:
                    raise InputError(
                        f"phone {index} ({self.phones[index]}): {value} frames; a phone has at least 1 (1/75 s)"
                    )
        if self.floors is not None and self.caps is not None:
            for index, (floor, cap) in enumerate(zip(self.floors, self.caps, strict=True)):
                if floor is not None and cap is not None and floor > cap:
                    raise InputError(
                        f"phone {index} ({self.phones[index]}): at least {floor} and at most {cap} frames can't be met"
                    )
        if not SLOWEST <= self.speed <= FASTEST:
            raise InputError(f"speed must be {SLOWEST} to {FASTEST} (1: as the model speaks), got {self.speed}")

    @property
    def controlled(self) -> bool:
        """Whether durations are asked for."""
        asked = (*(self.floors or ()), *(self.caps or ()))
        return self.speed != 1 or any(value is not None for value in asked)

    def without_first(self) -> "SpeechRequest":
        """Without its first phone, which is in no word. Raises InputError where that one's duration is asked for."""
        if any(values is not None and values[0] is not None for values in (self.floors, self.caps)):
            raise InputError(
                "phone 0 is silence, and the prompt ends with silence, which begins the sentence: leave phone 0 out, or its "
                "duration open"
            )
        return dataclasses.replace(
            self,
            phones=self.phones[1:],
            words=tuple(word.moved(-1) for word in self.words),
            floors=None if self.floors is None else self.floors[1:],
            caps=None if self.caps is None else self.caps[1:],
        )
