"""Control files: JSON → Control. What the file holds is described in docs/control.md."""

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.files import read_json
from ellav_jax.frontend.durations import FRAME_RATE
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.inventory import phone_name
from ellav_jax.synthesis.control import Control, Duration, Pause, Pronunciation
from ellav_jax.synthesis.request import FASTEST, SLOWEST

LONGEST_SECONDS = 60.0
"""Of one phone; more is a slip of the pen."""

_EXACT = ("frames", "seconds")
_LEAST = ("min_frames", "min_seconds")
_MOST = ("max_frames", "max_seconds")
_TIMES = (*_EXACT, *_LEAST, *_MOST)
_TARGETS = ("phone", "phones", "word", "every")


def read_control(path: Path, frontend: Frontend) -> Control:
    """Reads a control file. Raises InputError: which entry, what was found, what was expected."""
    return parse_control(read_json(path, "control file"), frontend, str(path))


def parse_control(content: Any, frontend: Frontend, where: str = "control") -> Control:
    """The content of a control file, found at `where`. Raises InputError as `read_control`."""
    fields = ("speed", "phones", "pronunciations", "pauses", "durations", *_TIMES)
    _check_keys(content, fields, where)
    speed = content.get("speed", 1.0)
    if not _is_number(speed) or not SLOWEST <= speed <= FASTEST:
        raise InputError(f"{where}: speed is {speed!r}, expected a number from {SLOWEST} to {FASTEST}")
    phones = None if "phones" not in content else _phones(content["phones"], frontend, f"{where}: phones")
    if phones is not None and (content.get("pronunciations") or content.get("pauses")):
        raise InputError(f"{where}: phones are given, so pronunciations and pauses belong among them")
    floors, caps = _times(content, where, _column)
    return Control(
        float(speed),
        phones,
        floors,
        caps,
        tuple(_pronunciation(*one, frontend) for one in _entries(content, "pronunciations", where)),
        tuple(_pause(*one) for one in _entries(content, "pauses", where)),
        tuple(_duration(*one, frontend) for one in _entries(content, "durations", where)),
        where,
    )


def _entries(content: dict[str, Any], name: str, where: str) -> list[tuple[Any, str]]:
    entries = content.get(name, [])
    if not isinstance(entries, list):
        raise InputError(f"{where}: {name} is {_kind(entries)}, expected a list of objects")
    return [(entry, f"{where}: {name}[{number}]") for number, entry in enumerate(entries)]


def _pronunciation(entry: Any, where: str, frontend: Frontend) -> Pronunciation:
    _check_keys(entry, ("word", "phone", "phones"), where, needed=("word", "phones"))
    phone = None if "phone" not in entry else _index(entry["phone"], f"{where}: phone")
    return Pronunciation(
        _word(entry["word"], f"{where}: word"), _phones(entry["phones"], frontend, where), phone, where
    )


def _pause(entry: Any, where: str) -> Pause:
    _check_keys(entry, ("after", *_EXACT), where, needed=("after",))
    frames = _time(entry, _EXACT, where, _scalar, least=0)
    if frames is None:
        raise InputError(f"{where}: expected seconds or frames; 0 takes a pause out")
    return Pause(_word(entry["after"], f"{where}: after"), frames, where)


def _duration(entry: Any, where: str, frontend: Frontend) -> Duration:
    _check_keys(entry, (*_TARGETS, *_TIMES), where)
    targets = [name for name in _TARGETS if name in entry]
    if targets not in (["phone"], ["phones"], ["word"], ["phone", "word"], ["every"]):
        raise InputError(
            f"{where}: {' and '.join(targets) or 'nothing'} says which phones; expected phone, or phones [first, last], or "
            "word, or word and phone (of the word), or every (phone name)"
        )
    floor, cap = _times(entry, where, _scalar)
    if floor is None and cap is None:
        raise InputError(f"{where}: says no duration; expected one of {', '.join(_TIMES)}")
    target: dict[str, Any] = {}
    if "word" in entry:
        target["word"] = _word(entry["word"], f"{where}: word")
        if "phone" in entry:
            target["phone"] = _index(entry["phone"], f"{where}: phone")
    elif "phone" in entry:
        target["phones"] = (_index(entry["phone"], f"{where}: phone"),) * 2
    elif "phones" in entry:
        ends = entry["phones"]
        if not isinstance(ends, list) or len(ends) != 2:
            raise InputError(f"{where}: phones is {ends!r}, expected [first, last]")
        target["phones"] = (_index(ends[0], f"{where}: phones"), _index(ends[1], f"{where}: phones"))
    else:
        target["every"] = _phones(entry["every"], frontend, where)
    return Duration(floor, cap, where=where, **target)


def _times(content: dict[str, Any], where: str, read: Any) -> tuple[Any, Any]:
    """Floor and cap: exact, or one or both of them."""
    exact, least, most = (_time(content, names, where, read) for names in (_EXACT, _LEAST, _MOST))
    if exact is None:
        _check_order(least, most, where)
        return least, most
    if least is not None or most is not None:
        raise InputError(
            f"{where}: an exact duration stands beside a least or most one; expected the one or the others"
        )
    return exact, exact


def _time(content: dict[str, Any], names: Sequence[str], where: str, read: Any, least: int = 1) -> Any:
    given = [name for name in names if name in content]
    if len(given) > 1:
        raise InputError(f"{where}: both {given[0]} and {given[1]}; expected exactly one of them")
    return read(content[given[0]], given[0].endswith("seconds"), f"{where}: {given[0]}", least) if given else None


def _column(values: Any, in_seconds: bool, where: str, least: int) -> tuple[int | None, ...]:
    if not isinstance(values, list):
        raise InputError(f"{where} is {_kind(values)}, expected a list with one number (or null) for each phone")
    return tuple(
        None if value is None else _scalar(value, in_seconds, f"{where}[{place}]", least)
        for place, value in enumerate(values)
    )


def _scalar(value: Any, in_seconds: bool, where: str, least: int) -> int:
    """Frames."""
    if not _is_number(value) or not math.isfinite(value):
        raise InputError(f"{where} is {value!r}, expected a number")
    frames = round(value * FRAME_RATE) if in_seconds else value
    if frames != int(frames):
        raise InputError(f"{where} is {value!r}, expected whole frames (or seconds, which are rounded to them)")
    if not least <= frames <= LONGEST_SECONDS * FRAME_RATE:
        unit, most = "s" if in_seconds else "frames", LONGEST_SECONDS * FRAME_RATE
        raise InputError(f"{where}: {value:g} {unit}; expected {least} to {most:.0f} frames of 1/{FRAME_RATE} s")
    return int(frames)


def _check_order(least: Any, most: Any, where: str) -> None:
    if isinstance(least, int) and isinstance(most, int) and least > most:
        raise InputError(f"{where}: at least {least} and at most {most} frames can't be met")
    if isinstance(least, tuple) and isinstance(most, tuple):
        for place, (floor, cap) in enumerate(zip(least, most, strict=False)):
            _check_order(floor, cap, f"{where}: phone {place}")


def _phones(value: Any, frontend: Frontend, where: str) -> tuple[str, ...]:
    symbols = value.split() if isinstance(value, str) else value
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise InputError(f'{where}: found {value!r}, expected phones as "T AH M" or ["T", "AH", "M"]')
    return tuple(phone_name(symbol, frontend.phone_set, frontend.stress) for symbol in symbols)


def _word(value: Any, where: str) -> int | str:
    if isinstance(value, str) and value:
        return value
    return _index(value, where, " or its text")


def _index(value: Any, where: str, more: str = "") -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"{where} is {value!r}, expected its number, from 0{more}")
    return value


def _check_keys(content: Any, known: Sequence[str], where: str, needed: Sequence[str] = ()) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where}: found {_kind(content)}, expected an object with some of {', '.join(known)}")
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            like = f"did you mean {near[0]!r}? Expected" if near else "expected"
            raise InputError(f"{where}: unknown field {name!r}; {like} {', '.join(known)}")
    for name in needed:
        if name not in content:
            raise InputError(f"{where}: {name!r} is missing; expected {' and '.join(needed)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
