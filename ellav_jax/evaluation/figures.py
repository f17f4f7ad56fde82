"""Figures as SVG to stand inside a page: text and axes take the page's colour, curves its palette, so light and dark work.

matplotlib is used without pyplot, so neither a display nor a global state is involved.
"""

import dataclasses
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ellav_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that matplotlib draws with; the SVG's get replaced by the page's own colours.
INK, FAINT, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206"
PAGE_COLOURS = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
}
STYLE = {
    "svg.hashsalt": "ellav-jax",  # the same figure gives the same bytes
    "svg.fonttype": "none",  # text stays text: searchable, read aloud, in the page's font
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}
LIGHT = {"currentColor": "#1d1f22", "var(--faint)": "#a3a7ad", "var(--first)": "#2b6cb0", "var(--second)": "#c05f12"}
"""The page's palette in the light, for a figure that stands alone."""
FFT, HOP, WINDOW = 1024, 0.005, 0.020
"""Of the spectrograms: points, step (s) and Hann window (s): short enough that stops and voicing show."""
RANGE_DB, TOP_HZ = 80.0, 8000.0


@dataclasses.dataclass(frozen=True, eq=False)
class Spoken:
    """A waveform float32 [S] at `sample_rate` Hz with its phones' names [N] and durations [N] in frames of `frame_rate`."""

    title: str
    waveform_S: np.ndarray
    sample_rate: int
    phones: Sequence[str]
    durations_N: np.ndarray
    frame_rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.waveform_S) / self.sample_rate


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Losses of a run: (steps, nats a token) while training and held out."""

    title: str
    train: tuple[Sequence[int], Sequence[float]]
    held_out: tuple[Sequence[int], Sequence[float]]


def require_matplotlib() -> None:
    """Raises InputError that names the extra where matplotlib is missing."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError:
        raise InputError("figures need matplotlib; install it with: pip install 'ellav-jax[report]'") from None


def spectrograms(spoken: Sequence[Spoken], alt: str) -> str:
    """SVG of spectrograms above each other on one time axis, with phone boundaries and names; one scale of levels.

    alt: what is to be seen, for who can't.
    """
    require_matplotlib()
    levels = [spectrogram_db(one.waveform_S, one.sample_rate) for one in spoken]
    top = float(max(level_FxH.max() for level_FxH in levels))

    def draw(figure: "Figure") -> None:
        rows = figure.subplots(len(spoken), 1, sharex=True, squeeze=False)[:, 0]
        for axes, one, level_FxH in zip(rows, spoken, levels, strict=True):
            _draw_spectrogram(axes, one, level_FxH, top)
        rows[0].set_xlim(0, max(one.seconds for one in spoken))
        rows[-1].set_xlabel("seconds")

    return as_svg(draw, (10.5, 2.35 * len(spoken) + 0.3), alt)


def spectrogram_db(waveform_S: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels in dB of a full-scale sine, float32 [F, H]: F steps of `HOP` (frame i is centred on i · HOP), 0 … `TOP_HZ`."""
    window_W = np.hanning(round(WINDOW * sample_rate))
    half, hop = len(window_W) // 2, round(HOP * sample_rate)
    padded = np.pad(waveform_S, (half, len(window_W) - half))
    frames_FxW = np.lib.stride_tricks.sliding_window_view(padded, len(window_W))[::hop]
    spectrum_FxK = np.fft.rfft(frames_FxW * (2 * window_W / window_W.sum()), FFT)
    bins = int(TOP_HZ * FFT / sample_rate) + 1
    return 20 * np.log10(np.abs(spectrum_FxK[:, :bins]) + 1e-6).astype(np.float32)


def _draw_spectrogram(axes: "Axes", spoken: Spoken, level_FxH: np.ndarray, top: float) -> None:
    axes.imshow(
        level_FxH.T,
        origin="lower",
        aspect="auto",
        interpolation="none",
        cmap="magma",
        vmin=top - RANGE_DB,
        vmax=top,
        extent=(-HOP / 2, (len(level_FxH) - 0.5) * HOP, 0, TOP_HZ / 1000),
        rasterized=True,
    )
    ends = np.cumsum(spoken.durations_N) / spoken.frame_rate
    starts = ends - np.asarray(spoken.durations_N) / spoken.frame_rate
    axes.vlines(starts[1:], 0, TOP_HZ / 1000, colors="white", linewidth=0.6, alpha=0.55)
    for index, (phone, start, end) in enumerate(zip(spoken.phones, starts, ends, strict=True)):
        if start == end:
            continue  # never reached by a synthesis that was cut off
        # In two lines by turns: the names of short phones don't run into each other.
        height = 1.025 + 0.085 * (index % 2)
        where = axes.get_xaxis_transform()
        axes.text((start + end) / 2, height, phone, transform=where, ha="center", va="bottom", fontsize=7.5)
    axes.set_title(spoken.title, pad=25)
    axes.set_ylabel("kHz")
    axes.set_yticks([0, 2, 4, 6, 8])
    axes.tick_params(length=3)


def training_curves(curves: Sequence[Curves], accuracy_by_layer: Mapping[int, float], alt: str) -> str:
    """SVG of the losses of each run, and of the last held-out accuracy of every RVQ layer."""
    require_matplotlib()

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(curves) + 1)
        for axes, run in zip(panels, curves, strict=False):
            axes.plot(*run.train, color=FIRST, label="train", marker="o", markersize=2.5)
            axes.plot(*run.held_out, color=SECOND, label="held out", marker="s", markersize=4)
            axes.set_title(run.title)
            axes.set_xlabel("step")
            axes.set_xlim(left=0)
            axes.grid(axis="y")
            axes.legend()
        panels[0].set_ylabel("loss, nats a token")
        _draw_accuracy(panels[-1], accuracy_by_layer)

    return as_svg(draw, (10.5, 2.9), alt)


def _draw_accuracy(axes: "Axes", accuracy_by_layer: Mapping[int, float]) -> None:
    layers = sorted(accuracy_by_layer)
    values = [100 * accuracy_by_layer[layer] for layer in layers]
    axes.bar(layers, values, width=0.62, color=SECOND)
    for layer, value in zip(layers, values, strict=True):
        axes.text(layer, value, f"{value:.1f}", ha="center", va="bottom", fontsize=8)
    axes.margins(y=0.1)
    axes.set_title("Held-out accuracy by RVQ layer")
    axes.set_xlabel("RVQ layer (1: GAR, 2 … 8: NAR)")
    axes.set_ylabel("% of codes")
    axes.set_xticks(layers)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def as_svg(draw: Callable[["Figure"], None], size: tuple[float, float], alt: str) -> str:
    """What `draw` draws on `size` inches, as an <svg> that scales with its box, in the page's colours."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        FigureCanvasSVG(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    root = re.search(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', svg)
    body = svg[root.end() :].strip()
    # Ids of groups repeat from figure to figure; those that are referred to are hashes of what they name.
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    for stand_in, colour in PAGE_COLOURS.items():
        body = body.replace(stand_in, colour)
    return f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="{root[1]}">\n{body}'


def standalone_svg(svg: str) -> str:
    """A figure of `as_svg` as a file of its own, in the light palette on white."""
    for name, colour in LIGHT.items():
        svg = svg.replace(name, colour)
    left, top, width, height = re.search(r'viewBox="([^"]*)"', svg)[1].split()
    ground = f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="#ffffff"/>'
    size = f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}"'  # matplotlib counts in points
    head, rest = svg.split(">", 1)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return (
        f"{head.replace('<svg', f'<svg {spaces} {size} font-family={chr(34)}sans-serif{chr(34)}', 1)}>{ground}{rest}\n"
    )
