import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.evaluation import figures
from ellav_jax.evaluation.figures import HOP, Curves, Spoken, spectrogram_db, spectrograms, training_curves

RATE = 24000
SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ET.Element:
    """An inline <svg> has its namespaces from HTML; XML wants them declared."""
    declared = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return ET.fromstring(svg.replace("<svg", f"<svg {declared}", 1))


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in parse(svg).iter(f"{SVG}text")]


def tone(hertz: float, seconds: float, amplitude: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def spoken(title: str, phones: list[str], durations: list[int]) -> Spoken:
    return Spoken(title, tone(440, sum(durations) / 75), RATE, phones, np.array(durations), 75)


@pytest.mark.parametrize(("hertz", "amplitude"), [(1500, 1.0), (3000, 0.1), (6000, 0.01)])
def test_a_sine_stands_at_its_frequency_with_its_level(hertz, amplitude):
    level_FxH = spectrogram_db(tone(hertz, 0.5, amplitude), RATE)
    inside = level_FxH[20:80]
    bin_hertz = 8000 / (level_FxH.shape[1] - 1)
    assert inside.argmax(axis=1) * bin_hertz == pytest.approx(hertz, abs=bin_hertz)
    assert inside.max(axis=1) == pytest.approx(20 * np.log10(amplitude), abs=0.3)


def test_a_click_stands_at_its_time():
    waveform = np.zeros(RATE, np.float32)
    waveform[round(0.3 * RATE)] = 1
    assert spectrogram_db(waveform, RATE).sum(axis=1).argmax() * HOP == pytest.approx(0.3, abs=HOP)


def test_spectrograms_name_each_phone_and_mark_each_inner_boundary():
    first, second = spoken("one", ["SIL", "AA", "T"], [10, 20, 8]), spoken("two", ["SIL", "IY"], [5, 40])
    svg = spectrograms([first, second], "a & b")
    assert parse(svg).attrib["aria-label"] == "a & b"
    labels = texts(svg)
    for name, count in (("SIL", 2), ("AA", 1), ("T", 1), ("IY", 1), ("one", 1), ("two", 1), ("seconds", 1)):
        assert labels.count(name) == count
    assert len(list(parse(svg).iter(f"{SVG}image"))) == 2
    boundaries = [node for node in parse(svg).iter(f"{SVG}path") if "stroke: #ffffff" in node.get("style", "")]
    assert len(boundaries) == 3


def test_a_phone_that_was_never_reached_has_no_name():
    assert "AA" not in texts(spectrograms([spoken("cut off", ["SIL", "T", "AA"], [10, 20, 0])], "cut off"))


def test_curves_show_every_run_and_layer_in_the_pages_colours():
    runs = [Curves(name, ([1, 2, 3], [5.0, 4.0, 3.0]), ([3], [3.5])) for name in ("GAR", "NAR")]
    svg = training_curves(runs, {1: 0.25, 2: 0.125}, "curves")
    labels = texts(svg)
    assert {"GAR", "NAR", "25.0", "12.5"} <= set(labels)
    assert labels.count("train") == labels.count("held out") == 2
    assert "currentColor" in svg
    assert "#01020" not in svg


def test_a_run_too_short_for_a_training_point_has_a_curve_of_its_held_out_loss():
    svg = training_curves([Curves("GAR", ([], []), ([1], [6.9]))], {1: 0.0}, "one step")
    assert "held out" in texts(svg)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'ellav-jax\[report\]'"):
        figures.require_matplotlib()


def test_a_figure_stands_alone_as_a_file_with_its_colours_and_size():
    drawn = figures.as_svg(lambda figure: figure.subplots().plot([1, 3], color=figures.FIRST), (4, 2), "a line")
    alone = figures.standalone_svg(drawn)
    root = ET.fromstring(alone)
    assert (root.get("width"), root.get("height")) == ("384", "192")  # 4 by 2 inches of 96 pixels
    assert root.get("aria-label") == "a line"
    assert "#2b6cb0" in alone
    assert "var(" not in alone and "currentColor" not in alone
