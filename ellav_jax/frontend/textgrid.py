"""Alignments that MFA (or a person with Praat) wrote as TextGrids: phones with their times."""

import re
from pathlib import Path

from ellav_jax.errors import UnusableError
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.inventory import SIL, phone_name
from ellav_jax.frontend.textgrid_file import Interval, TextGrid, Tier, read_textgrid

LENGTH_TOLERANCE_S = 0.04
"""How far the ends of TextGrid and recording may lie apart.

MFA counts in steps of 10 ms and leaves up to two of them uncovered; older versions left the last window of 25 ms out as
well, and files 34 ms short are known. More than three of the codec's frames are no rounding: another recording.
"""

_SAME_TIME_S = 1e-4
"""Times are written with 4 to 6 digits: what is nearer than this is one boundary."""

_SILENCES = {"", "sil", "sp", "<eps>"}
_UNKNOWN_WORD = "spn"

_PHONE_TIER = re.compile(r"(?:^|-)\s*(?:phones?|phonemes|segments?)$", re.IGNORECASE)
_WORD_TIER = re.compile(r"(?:^|-)\s*words?$", re.IGNORECASE)


def textgrid_intervals(path: Path, length_s: float, frontend: Frontend) -> list[PhoneInterval]:
    """The phones in a TextGrid of a recording that lasts `length_s`: from 0 to its end, without gaps.

    The tier of phones is named "phones" (as MFA does; "SPEAKER - phones", "phone", "phonemes" and "segments" too).
    Silences ("", sil, sp) and gaps are SIL; stress is stripped when the frontend has none; what ends within
    `LENGTH_TOLERANCE_S` of the recording's end is moved to it.
    Raises UnusableError: "textgrid-missing", "textgrid-malformed", "textgrid-overlap", "textgrid-length",
    "phone-unknown" (also for `spn`, a word that MFA's dictionary lacks), or "text-empty" when nothing but silence is
    there.
    """
    path = Path(path)
    textgrid = read_textgrid(path)
    tier = _phone_tier(path, textgrid)
    _check_length(path, textgrid, length_s)
    intervals: list[PhoneInterval] = []
    time = 0.0
    for item in tier.intervals:
        if item.start_s < time - _SAME_TIME_S or item.end_s <= item.start_s:
            raise UnusableError(
                "textgrid-overlap",
                f"{path}: {item.label!r} lasts from {item.start_s:g} to {item.end_s:g} s, expected it to begin at or "
                f"after {time:g} s, where the one before it ends, and to end later",
            )
        phone = _phone(path, item, textgrid, frontend)
        if item.end_s > length_s + LENGTH_TOLERANCE_S or (item.start_s >= length_s and phone != SIL):
            raise UnusableError(
                "textgrid-length",
                f"{path}: {item.label!r} lasts from {item.start_s:g} to {item.end_s:g} s, but the recording ends at "
                f"{length_s:.3f} s",
            )
        if item.start_s >= length_s:
            break
        if item.start_s > time + _SAME_TIME_S:
            intervals.append(PhoneInterval(SIL, time, item.start_s))
            time = item.start_s
        intervals.append(PhoneInterval(phone, time, min(max(item.end_s, time), length_s)))
        time = intervals[-1].end_s
    if all(interval.phone == SIL for interval in intervals):
        raise UnusableError("text-empty", f"{path}: tier {tier.name!r} holds nothing but silence")
    if length_s - time > LENGTH_TOLERANCE_S:
        intervals.append(PhoneInterval(SIL, time, length_s))
    intervals[-1] = intervals[-1]._replace(end_s=length_s)
    return intervals


def _phone_tier(path: Path, textgrid: TextGrid) -> Tier:
    tiers = [tier for tier in textgrid.tiers if _PHONE_TIER.search(tier.name.strip())]
    if len(tiers) != 1:
        names = ", ".join(repr(tier.name) for tier in textgrid.tiers) or "no tiers"
        raise UnusableError(
            "textgrid-malformed",
            f"{path}: found {names}; expected one tier of phones, such as 'phones', for one speaker",
        )
    return tiers[0]


def _check_length(path: Path, textgrid: TextGrid, length_s: float) -> None:
    if abs(textgrid.start_s) > _SAME_TIME_S or abs(textgrid.end_s - length_s) > LENGTH_TOLERANCE_S:
        raise UnusableError(
            "textgrid-length",
            f"{path}: lasts from {textgrid.start_s:g} to {textgrid.end_s:g} s, the recording {length_s:.3f} s; expected "
            f"0 to that, give or take {LENGTH_TOLERANCE_S:g} s; align this recording again",
        )


def _phone(path: Path, item: Interval, textgrid: TextGrid, frontend: Frontend) -> str:
    label = item.label.strip()
    if label.lower() in _SILENCES:
        return SIL
    phone = phone_name(label, frontend.phone_set, frontend.stress)
    if phone in frontend.phones:
        return phone
    if label.lower() == _UNKNOWN_WORD:
        raise UnusableError(
            "phone-unknown",
            f"{path}: the word {_word_at(item, textgrid)!r} at {item.start_s:g} s is unknown to MFA (spn); add it to the "
            "dictionary and align again",
        )
    raise UnusableError(
        "phone-unknown",
        f"{path}: the phone {label!r} at {item.start_s:g} s is none of the frontend's {len(frontend.phones)} phones, "
        f"which come from {frontend.dictionary}; prepare with the dictionary that the alignment was made with",
    )


def _word_at(item: Interval, textgrid: TextGrid) -> str:
    """What the tier of words has in the middle of `item`; "?" when nothing."""
    middle = (item.start_s + item.end_s) / 2
    words = (word for tier in textgrid.tiers if _WORD_TIER.search(tier.name.strip()) for word in tier.intervals)
    return next((word.label for word in words if word.start_s <= middle < word.end_s), "?")
