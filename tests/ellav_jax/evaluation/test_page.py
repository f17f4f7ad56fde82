"""The page's structure, as a browser's parser sees it."""

import base64
import html.parser
import io

import numpy as np
import pytest
import soundfile

from ellav_jax.evaluation.figures import Curves, Spoken
from ellav_jax.evaluation.page import Clip, Page, Sentence, render
from ellav_jax.evaluation.teacher_forced import TeacherForced

RATE = 24000
VOID = {"meta", "br", "link", "img", "input", "hr"}
# What the <svg> of a figure may refer to, beside what is inside it.
SVG_LINKS = ("data:image/png;base64,", "#")


class Reader(html.parser.HTMLParser):
    """Keeps the elements, the text inside each kind, and fails on tags that don't match."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def noise(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, int(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def page() -> Page:
    sentences = []
    for index, text in enumerate(["Say <b>this</b> & “that”", "Another one."]):
        waveforms = [noise(3 * index + i, 0.2 + 0.1 * i) for i in range(3)]
        clips = [Clip(f"clip {i}", "a <note>", wave, RATE, emphasis=i == 2) for i, wave in enumerate(waveforms)]
        drawn = [Spoken("Synthesis", waveforms[2], RATE, ["SIL", "AA"], np.array([10, 20]), 75)]
        sentences.append(Sentence(f"id-{index}", text, clips, drawn))
    return Page(
        title="A title & more",
        lead=["What <it> is."],
        listening="Listen.",
        sentences=sentences,
        curves=[Curves(name, ([20, 40], [5.0, 4.0]), ([40], [4.5])) for name in ("GAR", "NAR")],
        accuracy_by_layer={layer: 0.3 / layer for layer in range(1, 9)},
        teacher_forced=TeacherForced(4251, 0.15, 4.0, 0.05, 5.5),
        made={"Models": {"GAR": "3.9 M <parameters>"}, "Machine": {"cores": "2"}},
        credit="© someone & others",
    )


@pytest.fixture(scope="module")
def read(page) -> Reader:
    return Reader(render(page))


def test_nothing_is_fetched(read):
    for tag, attributes in read.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:", *SVG_LINKS)), (tag, attributes[name][:80])
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in read.elements}
    style = "".join(read.texts["style"])
    assert "@import" not in style
    assert "url(" not in style


def test_every_clip_is_inside_as_sound_without_loss(page, read):
    clips = [clip for sentence in page.sentences for clip in sentence.clips]
    players = read.all("audio")
    assert len(players) == len(clips)
    for attributes, clip in zip(players, clips, strict=True):
        assert "controls" in attributes
        assert attributes["aria-label"] == clip.title
        kind, _, data = attributes["src"].partition(",")
        assert kind == "data:audio/flac;base64"
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
        assert rate == RATE
        assert np.abs(wave - np.clip(clip.waveform_S, -1, 1)).max() <= 1 / 32768


def test_text_is_escaped(page, read):
    assert read.texts["title"] == ["A title & more"]
    assert [text.strip() for text in read.texts["h3"]] == [f"“{one.text}” {one.id}" for one in page.sentences]
    assert "3.9 M <parameters>" in read.texts["td"]
    assert not read.all("b")


def test_figures_are_described_and_tables_have_headers(page, read):
    labels = [svg["aria-label"] for svg in read.all("svg")]
    assert len(labels) == len(page.sentences) + 1
    assert all(svg["role"] == "img" for svg in read.all("svg"))
    assert "SIL AA" in labels[0]
    assert "NAR: held-out loss 4.50 after 40 steps" in labels[-1]
    tables = read.all("table")
    assert len(read.texts["caption"]) == len(tables) == 2 + len(page.made)
    assert all(header.get("scope") in ("col", "row") for header in read.all("th"))
    assert read.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for tag, attributes in read.elements if "id" in attributes and tag.startswith(("h", "s"))]
    assert len(ids) == len(set(ids))


def test_teacher_forced_figures_stand_beside_their_baselines(read):
    cells = read.texts["td"]
    for value in ("15.0%", "5.0%", "4.00", "5.50"):
        assert value in cells
    assert {"3.0 times", "1.50 nats"} <= set(read.texts["strong"])
