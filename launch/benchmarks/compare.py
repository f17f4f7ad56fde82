"""`ellav bench compare OLD NEW`: what has become faster or slower, as far as the noise lets one see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from tyro.conf import Positional, arg

from ellav_jax.errors import InputError, RunError
from launch.benchmarks.record import Measure, Record, read_record
from launch.benchmarks.statistics import ENOUGH, LEVEL, Interval, median, ratio_interval
from launch.benchmarks.table import describe_environment, label_of, wide_console

MACHINE = ("platform", "device", "cpu", "machine", "cores", "memory_gib", "flags")
"""Fields of the environment that have to be the same; versions and revision are what is compared."""
BUSY = 0.1
"""Share of the cores that other processes may take before a comparison is warned of."""
Verdict = Literal["faster", "slower", "no difference seen", "too few repetitions"]


def run(
    old: Annotated[Positional[Path], arg(metavar="OLD.json")],
    new: Annotated[Positional[Path], arg(metavar="NEW.json")],
    tolerance: float = 0.05,
    anyway: bool = False,
) -> None:
    """Compares the repetitions of two files that `ellav bench … --json` wrote, and prints a verdict for each measure.

    The ratio of the medians (new over old, in seconds) has a 95 % bootstrap interval over the runs and the repetitions
    within them. faster, slower: the interval leaves 1 out; otherwise no difference is seen, and the interval says how large
    a one could hide. Files of other machines, flags, protocols or settings are refused, with what differs.

    tolerance: exit status 1 where a measure of ours is slower, by more than so much of its time. anyway: compare what
    differs in machine, protocol or settings nonetheless; points are paired in their order. Raises InputError, RunError.
    """
    if not tolerance >= 0:
        raise InputError(f"bench compare: tolerance is {tolerance}; expected 0 or more (0.05: 5 %)")
    before, after = read_record(old), read_record(new)
    if before.benchmark != after.benchmark:
        raise InputError(f"{old} is of bench {before.benchmark}, {new} of bench {after.benchmark}; expected the same")
    differ = list(_differences(before, after))
    if differ and not anyway:
        raise InputError(
            f"{old} and {new} can't be compared: {'; '.join(differ)}; measure both alike, or give --anyway"
        )
    console = wide_console()
    table = Table("", "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("old ms", "new ms", "new/old", f"{LEVEL:.0%} interval"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    regressions = []
    for title, name, one, other in _pairs(before, after):
        ratio, found = compare(one, other)
        cells = [f"{1e3 * median(measure.seconds):,.1f}" for measure in (one, other)]
        about = "" if other.ours else " (not ours)"
        table.add_row(title, name, *cells, f"{ratio.value:.3f}", f"{ratio.low:.3f} … {ratio.high:.3f}", found + about)
        if found == "slower" and other.ours and ratio.value > 1 + tolerance:
            regressions.append(f"{title} {name} {ratio.value - 1:+.1%} [{ratio.low - 1:+.1%}, {ratio.high - 1:+.1%}]")
    console.print(table)
    for line in [f"differs: {one}" for one in differ] + _remarks(before, after, tolerance):
        console.print(line, soft_wrap=True, markup=False)
    if regressions:
        raise RunError(f"slower by more than the tolerance of {tolerance:.1%}: {'; '.join(regressions)}")


def compare(old: Measure, new: Measure) -> tuple[Interval, Verdict]:
    """Seconds of the new one over those of the old one, and the verdict."""
    ratio = ratio_interval(new.seconds, old.seconds)
    if min(sum(map(len, one.seconds)) for one in (old, new)) < ENOUGH:
        return ratio, "too few repetitions"
    if ratio.low > 1:
        return ratio, "slower"
    return ratio, "faster" if ratio.high < 1 else "no difference seen"


def _differences(old: Record, new: Record) -> Iterator[str]:
    """What keeps two records from being compared, in words."""
    machine = [{name: record.environment[name] for name in MACHINE} for record in (old, new)]
    yield from _fields(*machine)
    yield from _fields(old.protocol, new.protocol)
    if len(old.points) != len(new.points):
        yield f"{len(old.points)} points there, {len(new.points)} now"
    for one, other in zip(old.points, new.points, strict=False):
        where = f"{label_of(other)}: "
        yield from _fields(one.settings, other.settings, where)
        yield from _fields(list(one.measures), list(other.measures), f"{where}measures")
        for name in one.measures.keys() & other.measures.keys():
            yield from _fields(one.measures[name].work, other.measures[name].work, f"{where}{name}, work: ")


def _fields(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """`path: old there, new now` for what differs; a field that one of them doesn't know yet is no difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old:
            if name in new:
                joined = f"{path}{name}" if not path or path.endswith(" ") else f"{path}.{name}"
                yield from _fields(old[name], new[name], joined)
    elif old != new:
        yield f"{path}: {old} there, {new} now"


def _pairs(old: Record, new: Record) -> Iterator[tuple[str, str, Measure, Measure]]:
    """Label and name of a measure, and what was found there and now."""
    if len(old.points) != len(new.points):
        raise InputError(
            f"bench compare --anyway: {len(old.points)} points there, {len(new.points)} now can't be paired"
        )
    for one, other in zip(old.points, new.points, strict=True):
        for name in one.measures:
            if name in other.measures:
                yield label_of(other), name, one.measures[name], other.measures[name]


def _remarks(old: Record, new: Record, tolerance: float) -> list[str]:
    """What a reader of the verdicts should know beside them."""
    lines = [f"old: {describe_environment(old.environment)}", f"new: {describe_environment(new.environment)}"]
    for one, other in zip(old.points, new.points, strict=True):
        for name in ("peak_bytes", "compile_seconds"):
            there, now = one.figures.get(name), other.figures.get(name)
            if there and now and abs(now / there - 1) > tolerance:
                lines.append(f"{label_of(other)}: {name} {there:,.4g} there, {now:,.4g} now ({now / there - 1:+.1%})")
    for name, record in (("old", old), ("new", new)):
        shares = [share for point in record.points if (share := point.figures.get("others_share")) is not None]
        if max(shares, default=0.0) > BUSY:
            lines.append(
                f"warning: other processes took up to {max(shares):.0%} of the cores while {name} was measured; that moves "
                "medians by more than intervals tell: measure both again on an idle machine, with --runs 3 or more"
            )
    return lines
