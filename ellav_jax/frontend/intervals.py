"""PhoneInterval: one phone of an alignment."""

from typing import NamedTuple


class PhoneInterval(NamedTuple):
    """A phone and the seconds at which it begins and ends."""

    phone: str
    start_s: float
    end_s: float
