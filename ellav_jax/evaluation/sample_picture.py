"""A picture of what a model in training says: when each phone was said, and when it should have been."""

from typing import TYPE_CHECKING

import numpy as np

from ellav_jax.evaluation.figures import HOP, RANGE_DB, TOP_HZ, Spoken, require_matplotlib, spectrogram_db

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 100
# Neighbouring phones in turns, so that their bounds show.
SHADES = ("#c6dbef", "#9ecae1")


def sample_picture(reference: Spoken, said: Spoken) -> np.ndarray:
    """The reference's phones as spans, those said below them, and the spectrogram of what was said, on one time axis.

    → uint8 [H, W, 3]. Raises InputError where matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    above, below, spectrum = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 5))
    _draw_spans(above, reference)
    _draw_spans(below, said)
    level_FxH = spectrogram_db(said.waveform_S, said.sample_rate)
    top = float(level_FxH.max())
    spectrum.imshow(
        level_FxH.T,
        origin="lower",
        aspect="auto",
        interpolation="none",
        cmap="magma",
        vmin=top - RANGE_DB,
        vmax=top,
        extent=(-HOP / 2, (len(level_FxH) - 0.5) * HOP, 0, TOP_HZ / 1000),
    )
    spectrum.set_ylabel("kHz")
    spectrum.set_xlabel("seconds")
    spectrum.set_xlim(0, max(_seconds(reference), _seconds(said)))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _seconds(spoken: Spoken) -> float:
    return float(np.sum(spoken.durations_N)) / spoken.frame_rate


def _draw_spans(axes: "Axes", spoken: Spoken) -> None:
    ends = np.cumsum(spoken.durations_N) / spoken.frame_rate
    widths = np.asarray(spoken.durations_N) / spoken.frame_rate
    colours = [SHADES[index % 2] for index in range(len(ends))]
    axes.bar(ends - widths, 1, widths, align="edge", color=colours)
    for phone, end, width in zip(spoken.phones, ends, widths, strict=True):
        if width:  # 0: never reached by a synthesis that was cut off
            axes.text(end - width / 2, 0.5, phone, ha="center", va="center", fontsize=7, clip_on=True)
    axes.set_title(spoken.title, loc="left", fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(0, 1)
