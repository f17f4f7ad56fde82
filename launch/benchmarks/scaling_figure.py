"""The figure of `ellav bench scaling`: what was measured at the left, what is estimated at the right, with other marks."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ellav_jax.evaluation.figures import FAINT, FIRST, SECOND, as_svg, require_matplotlib, standalone_svg
from launch.benchmarks.record import Point
from launch.benchmarks.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "Measured positions a second over devices, and estimated model FLOPs utilisation on pods"
_DASHES = ("-", "--", ":", "-.")
_ROW_INCHES, _LEAST_INCHES = 0.42, 3.2


@dataclasses.dataclass(frozen=True)
class Measured:
    """A point of a scaling run: positions a second of the loop, in all and as a share of what was to be kept."""

    devices: int
    processes: int
    rows: int
    rate: Interval
    kept: Interval
    point: Point


@dataclasses.dataclass(frozen=True)
class Line:
    """The points of one record, fewest devices first. shared_cores: its devices are virtual and share the cores."""

    name: str
    scaling: str
    shared_cores: bool
    points: list[Measured]


@dataclasses.dataclass(frozen=True)
class Estimated:
    """A point of `ellav plan`: bytes as compiled; MFU by the roofline and by the compiler's two estimates."""

    name: str
    devices: int
    mesh: str
    rows: int
    peak_bytes: float
    seconds: float
    roofline: float
    cycles: float
    cost_analysis: float | None


def draw_scaling(lines: Sequence[Line], estimates: Sequence[Estimated]) -> str:
    """A file of SVG: positions a second and the share kept over devices, bars being 95 % intervals; MFU on pods.

    Raises InputError without matplotlib.
    """
    require_matplotlib()

    def draw(figure: "Figure") -> None:
        widths = [1, 1, 1.5] if estimates else [1, 1]
        rate, kept, *rest = figure.subplots(1, len(widths), width_ratios=widths)
        _draw_lines(rate, kept, lines)
        if rest:
            _draw_estimates(rest[0], estimates)

    height = max(_LEAST_INCHES, 1.2 + _ROW_INCHES * len(estimates))
    return standalone_svg(as_svg(draw, (12.5 if estimates else 8.0, height), FIGURE))


def _draw_lines(rate: "Axes", kept: "Axes", lines: Sequence[Line]) -> None:
    for number, line in enumerate(lines):
        devices = [one.devices for one in line.points]
        for axes, intervals, scale in (
            (rate, [one.rate for one in line.points], 1),
            (kept, [one.kept for one in line.points], 100),
        ):
            axes.errorbar(
                devices,
                [scale * one.value for one in intervals],
                yerr=[
                    [scale * (one.value - one.low) for one in intervals],
                    [scale * (one.high - one.value) for one in intervals],
                ],
                color=(FIRST, SECOND)[number % 2],
                linestyle=_DASHES[number // 2 % len(_DASHES)],
                marker="o",
                markersize=4,
                capsize=2.5,
                label=f"{line.name}, {line.scaling}",
            )
    counts = sorted({one.devices for line in lines for one in line.points})
    virtual = " (virtual, sharing the cores)" if all(line.shared_cores for line in lines) else ""
    for axes, title in ((rate, "Measured: positions/s"), (kept, "Measured: % kept")):
        axes.set_title(title)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel(f"devices{virtual}")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    rate.legend(loc="lower left")


def _draw_estimates(axes: "Axes", estimates: Sequence[Estimated]) -> None:
    places = range(len(estimates), 0, -1)
    known = [(place, one.cost_analysis) for place, one in zip(places, estimates, strict=True) if one.cost_analysis]
    shares = [100 * one.cycles for one in estimates]
    axes.barh(places, [100 * one.roofline for one in estimates], 0.62, color="none", edgecolor=FAINT, label="roofline")
    axes.barh(places, shares, 0.36, color=FIRST, alpha=0.55, label="compiler's cycles")
    axes.plot(
        [100 * share for _, share in known],
        [place for place, _ in known],
        marker="D",
        linestyle="none",
        color=SECOND,
        markersize=5,
        label="compiler's cost analysis",
    )
    for place, share in zip(places, shares, strict=True):
        axes.text(share, place, f" {share:.0f}", va="center", fontsize=8)
    axes.set_yticks(places, [one.name for one in estimates])
    axes.set_title("Estimated, nothing run: MFU %")
    axes.set_xlim(0, 100)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=3)
