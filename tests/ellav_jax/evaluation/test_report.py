"""The report's tables and page, as a browser's parser sees them."""

import csv
import io

import numpy as np
import pytest

from ellav_jax.evaluation.figures import Spoken
from ellav_jax.evaluation.metric import Column
from ellav_jax.evaluation.page_parts import Clip
from ellav_jax.evaluation.report import Findings, Group, Row, as_csv, as_json, format_estimate, worst_first
from ellav_jax.evaluation.report_page import Judged, render_report, sweep_panels
from tests.ellav_jax.evaluation.test_page import Reader

COLUMNS = (
    Column("WER %", "word error rate", "errors", "words", 100, 1, "lower"),
    Column("RTF", "speed", "computing", "seconds", 1, 2, "lower", False),
)


def results(errors, finished=(True, True, True)):
    return [
        {"id": f"u{i}", "errors": e, "words": 10, "finished": done, "computing": 1.0, "seconds": 4.0}
        for i, (e, done) in enumerate(zip(errors, finished, strict=True))
    ]


@pytest.fixture(scope="module")
def findings():
    ground = [{"id": f"u{i}", "errors": 0, "words": 10, "finished": True} for i in range(3)]
    rows = [
        Row("recordings", ground),
        Row("gar, top_p 0.5", results([1, 5, 3]), "gar", 0.5),
        Row("gar, top_p 1", results([2, 6, 4], (True, True, False)), "gar", 1.0),
    ]
    skipped = [("u9", "lasts 1 s & <less>")]
    return Findings("A <title>", [Group("words", "A note.", COLUMNS)], rows, "top_p", {"seed": 0}, ["no SPK"], skipped)


def test_the_worst_are_those_that_did_not_end_then_by_errors(findings):
    assert worst_first(findings.rows[1:], "errors", "words") == [2, 1, 0]
    assert worst_first(findings.rows[1:2], "errors", "words") == [1, 2, 0]
    assert worst_first(findings.rows[1:2], "None.errors", "None.words") == [0, 1, 2]


def test_json_and_csv_have_the_same_figures(findings):
    figures = as_json(findings)["figures"]
    lines = list(csv.DictReader(io.StringIO(as_csv(findings))))
    assert [{name: str(value) for name, value in one.items()} for one in figures] == lines
    by_row = {(one["row"], one["column"]): one["value"] for one in figures}
    assert by_row == {
        ("recordings", "WER %"): 0,
        ("gar, top_p 0.5", "WER %"): pytest.approx(30),
        ("gar, top_p 0.5", "RTF"): 0.25,
        ("gar, top_p 1", "WER %"): pytest.approx(40),
        ("gar, top_p 1", "RTF"): 0.25,
    }
    assert as_json(findings)["utterances"]["gar, top_p 1"][2]["errors"] == 4


def test_intervals_stand_beside_values_and_nothing_is_a_dash(findings):
    (_, _), (wer, rtf), _ = findings.estimates(findings.groups[0])
    assert format_estimate(COLUMNS[0], wer).startswith("30.0 [")
    assert format_estimate(COLUMNS[1], rtf) == "0.25"
    assert format_estimate(COLUMNS[1], None) == "–"


def test_a_sweep_is_a_curve_of_its_rows(findings):
    (panel, *rest) = sweep_panels(findings)
    assert not rest
    assert [(x, one.value) for x, one in panel.lines["gar"]] == [(0.5, pytest.approx(30)), (1.0, pytest.approx(40))]


def test_the_page_holds_everything_and_fetches_nothing(findings):
    wave_S = np.random.default_rng(0).uniform(-0.5, 0.5, 9600).astype(np.float32)
    clips = [Clip("Prompt", "", wave_S, 24000), Clip("gar", "cut off", wave_S, 24000, True, "systems/01/00002.wav")]
    drawn = [Spoken("gar", wave_S, 24000, ["SIL", "AA"], np.array([10, 20]), 75)]
    judged = [Judged("u2", "Say <b>this</b>", clips, drawn, [["gar", "parrot", "say that", "4/10"]])]
    listing = [["utterance", "text", "gar"], ["u2", "Say <b>this</b>", "4/10"]]
    read = Reader(render_report(findings, judged, listing, {"Machine": {"cores": "2"}}))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in read.elements}
    for tag, attributes in read.elements:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:", "#")) or (tag, value) == ("a", "systems/01/00002.wav")
    assert len(read.all("audio")) == 2
    labels = [svg["aria-label"] for svg in read.all("svg")]
    assert labels[0].startswith("Curves over top_p. WER %, words: 0.5: 30, 1: 40")
    assert "SIL AA" in labels[1]
    assert read.texts["title"] == ["A <title>"]
    assert not read.all("b")
    assert "lasts 1 s & <less>" in read.texts["td"]
    # What a browser without a player shows in its place.
    assert [text for text in read.texts["audio"] if text] == ["no player here: systems/01/00002.wav"]
    assert "say that" in read.texts["td"]
    assert len({one.get("id") for _, one in read.elements if "id" in one}) == sum(
        "id" in one for _, one in read.elements
    )
