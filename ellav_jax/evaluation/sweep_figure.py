"""Figures over a swept value, such as top-p: the form of the paper's figure 3."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ellav_jax.evaluation.bootstrap import Estimate
from ellav_jax.evaluation.figures import FIRST, SECOND, as_svg, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = ("-", "--", ":", "-.")
_PANELS_A_ROW = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One figure: for each system its points (swept value, estimate)."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, Estimate]]]


def sweep_curves(panels: Sequence[Panel], swept: str, alt: str) -> str:
    """SVG with a panel for each figure over the swept value, bars showing intervals; alt: what is to be seen."""
    require_matplotlib()
    rows = -(-len(panels) // _PANELS_A_ROW)

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(rows, _PANELS_A_ROW, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid, panels, strict=False):
            for number, (label, points) in enumerate(panel.lines.items()):
                values = [one.value for _, one in points]
                below = [one.value - one.low for _, one in points]
                above = [one.high - one.value for _, one in points]
                axes.errorbar(
                    [x for x, _ in points],
                    values,
                    # Rounding may put a value a hair outside its own interval.
                    yerr=[[max(one, 0) for one in side] for side in (below, above)],
                    color=(FIRST, SECOND)[number % 2],
                    linestyle=_DASHES[number // 2 % len(_DASHES)],
                    marker="o",
                    markersize=4,
                    capsize=2.5,
                    label=label,
                )
            axes.set_title(panel.title)
            axes.set_xlabel(swept)
            axes.set_xticks(sorted({x for points in panel.lines.values() for x, _ in points}))
            axes.set_ylim(bottom=min(0, *axes.get_ylim()))
            axes.grid(axis="y")
        if len(panels[0].lines) > 1:
            grid[0].legend()

    return as_svg(draw, (10.5, 2.9 * rows), alt)
