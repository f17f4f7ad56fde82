"""PhoneLimits: how long what is spoken may last where nobody says more."""

import dataclasses
import math

from ellav_jax.errors import InputError
from ellav_jax.frontend.inventory import SIL

NO_CAP = 2**30
"""Frames of a phone without a cap: more than any decoding has."""


@dataclasses.dataclass(frozen=True)
class PhoneLimits:
    """Least and most time of each phone, and most of a sentence. A cap exists in reproductions; its value is unknown.

    max_phone_seconds, max_silence_seconds: None, no cap. max_seconds: at which a sentence is cut off; None, about twice the
    length that speech of so many phones has, rounded up to a compiled shape.
    """

    min_frames: int = 1
    max_phone_seconds: float | None = 0.4
    max_silence_seconds: float | None = 0.8
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise InputError(f"min_frames must be 1 or more (no phone is left out), got {self.min_frames}")
        for name in ("max_phone_seconds", "max_silence_seconds", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be a number of seconds above 0, or None, got {value}")

    def cap(self, phone: str, frame_rate: int) -> int:
        """Most frames of a phone, by its name; `NO_CAP` where there is no cap. Never below `min_frames`."""
        seconds = self.max_silence_seconds if phone == SIL else self.max_phone_seconds
        return NO_CAP if seconds is None else max(round(frame_rate * seconds), self.min_frames)
