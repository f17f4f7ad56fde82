"""`ellav evaluate` with models that the command line trained for two steps."""

import csv
import json
import shutil
import subprocess

import jax
import numpy as np
import pytest
import soundfile

from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.evaluation.protocols import cross_sentence, read_sentences
from ellav_jax.synthesis.other_layers import fill_layers
from ellav_jax.synthesis.sampling import SamplingConfig
from launch import evaluate
from launch.evaluate import claim, parse_sweep
from launch.evaluation.clock import covered
from launch.evaluation.metrics import choose_metrics
from launch.evaluation.targets import HARD, _prompt_recordings, _sentence_text
from launch.synthesize import load_synthesizer
from tests.ellav_jax.evaluation.test_page import Reader

# Speech of models that have learned nothing: short enough to be quick.
SHORT = ("--max-phone-seconds", "0.03", "--max-silence-seconds", "0.03")
FILLED = "recorded layer 1, nar's 2 to 8"
QUICK = (*SHORT, "--speaker", "none", "--quality", "none", "--recognizers", "none", "--players", "1")


@pytest.fixture(autouse=True)
def endless_early(monkeypatch, tmp_path):
    """Speech counts as endless after 3 s, so that a model that never ends doesn't take long."""
    monkeypatch.setattr(evaluate, "LONGEST_SECONDS", dict.fromkeys(evaluate.LONGEST_SECONDS, 3.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def models(trained):
    return ["--gar", str(trained("gar")), "--nar", str(trained("nar"))]


def rows_of(out):
    return {(one["row"], one["column"]): float(one["value"]) for one in csv.DictReader((out / "report.csv").open())}


@pytest.fixture(scope="module")
def evaluated(trained, prepared_bundled, tmp_path_factory):
    """A data set's two shortest utterances, cross-sentence, swept over two values."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    arguments = ["--gar", str(trained("gar")), "--nar", str(trained("nar")), "--data", str(prepared_bundled)]
    arguments += ["--out", str(out), "--protocol", "cross-sentence", "--shortest", "0", "--limit", "2"]
    arguments += ["--sweep", "top_p=0.5,1.0", *QUICK]
    before = evaluate.LONGEST_SECONDS
    evaluate.LONGEST_SECONDS = dict.fromkeys(before, 3.0)
    try:
        evaluate.main(arguments)
    finally:
        evaluate.LONGEST_SECONDS = before
    return out, arguments


@pytest.mark.slow
def test_ground_truth_and_resynthesis_stand_beside_every_system(evaluated):
    out, _ = evaluated
    report = json.loads((out / "report.json").read_text())
    assert list(report["utterances"]) == ["recordings", "codec resynthesis", FILLED, "gar, top_p 0.5", "gar, top_p 1"]
    assert all(len(results) == 2 for results in report["utterances"].values())
    figures = rows_of(out)
    for label in ("gar, top_p 0.5", "gar, top_p 1"):
        assert figures[label, "INF %"] == 0  # two frames a phone at most
        assert figures[label, "capped %"] > 50
        assert figures[label, "RTF"] > 0
        assert 0 < figures[label, "duration"] < 1
    for label in report["utterances"]:
        assert (label, "not heard %") in figures
    for index, spoken in enumerate(report["utterances"]["gar, top_p 1"]):
        wave_S, rate = soundfile.read(out / "systems" / "02" / f"{index:05d}.wav")
        assert len(wave_S) / rate == pytest.approx(spoken["seconds"])
        assert sum(spoken["drawn"]["durations"]) == round(75 * spoken["seconds"])
        # Without caps the same model doesn't end before it counts as endless, or ends by itself.
        assert spoken["infinite_uncapped"] == (spoken["frames_uncapped"] >= 220)
    page = (out / "report.html").read_text()
    assert "Curves over top_p" in page
    assert page.count("<audio") == 6


@pytest.mark.slow
def test_the_nar_fills_the_recordings_layer_1_as_it_would_each_alone(evaluated, trained, prepared_bundled):
    out, _ = evaluated
    synthesizer = load_synthesizer(trained("gar"), trained("nar"))
    records = list(Dataset.open(prepared_bundled).records("test"))
    by_id = {record.id: record for record in records}
    lines = json.loads((out / "report.json").read_text())["utterances"][FILLED]
    for index, line in enumerate(lines):
        record = by_id[line["id"]]
        inventory = synthesizer.frontend.phones
        prompt = cross_sentence(record, synthesizer.analyzer.phones(record.text), records, inventory, 225).prompt
        phones_N = np.concatenate([prompt.phones_P, record.phones_N])
        durations_N = np.concatenate([prompt.durations_P, record.durations_N])
        first_T = record.codes_Tx8[:, 0].astype(np.int32)
        codes_Tx8 = fill_layers(synthesizer.engine.nar, prompt, phones_N, durations_N, first_T)[len(prompt.codes_Tx8) :]
        wave_S, _ = soundfile.read(out / "systems" / "nar_01" / f"{index:05d}.wav", dtype="float32")
        np.testing.assert_allclose(wave_S, synthesizer.codec.decode(codes_Tx8).clip(-1, 1), atol=1e-3)
        # The models' two steps taught the NAR nothing: what is heard is not the resynthesis.
        resynthesis_S, _ = soundfile.read(out / "systems" / "resynthesis" / f"{index:05d}.wav", dtype="float32")
        assert np.abs(wave_S - resynthesis_S).max() > 0.01


@pytest.mark.slow
def test_in_a_continuation_the_nar_leaves_the_prompt_as_it_is(models, prepared_bundled, tmp_path):
    out = tmp_path / "out"
    some = ["--shortest", "0", "--prompt-seconds", "1", "--limit", "1", "--phones", "none"]
    evaluate.main([*models, "--data", str(prepared_bundled), "--out", str(out), *some, *QUICK])
    report = json.loads((out / "report.json").read_text())["utterances"]
    given = report[FILLED][0]["given"]
    assert given > 0.5 * 24000
    filled_S, resynthesis_S = (
        soundfile.read(out / "systems" / name / "00000.wav", dtype="float32")[0] for name in ("nar_01", "resynthesis")
    )
    assert len(filled_S) == len(resynthesis_S) > given
    np.testing.assert_allclose(filled_S[:given], resynthesis_S[:given], atol=1e-3)
    assert np.abs(filled_S[given:] - resynthesis_S[given:]).max() > 0.01


@pytest.mark.slow
def test_the_same_command_speaks_nothing_again_and_says_the_same(evaluated):
    out, arguments = evaluated
    files = {path: path.stat().st_mtime_ns for path in (out / "systems").rglob("*")}
    before = (out / "report.json").read_bytes()
    evaluate.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in (out / "systems").rglob("*")} == files
    assert (out / "report.json").read_bytes() == before


@pytest.mark.slow
def test_models_are_loaded_once_and_what_was_compiled_for_them_goes_with_them(
    trained, prepared_bundled, tmp_path, monkeypatch
):
    load, compiled = evaluate._load, []

    def count(*arguments):
        compiled.append(len(jax.devices()[0].client.live_executables()))
        return load(*arguments)

    monkeypatch.setattr(evaluate, "_load", count)
    models = ["--nar", str(trained("nar"))]
    for name in ("first", "second", "third"):
        shutil.copytree(trained("gar"), tmp_path / name)
        models += ["--gar", str(tmp_path / name)]
    some = ["--protocol", "cross-sentence", "--shortest", "0", "--limit", "1", "--sweep", "top_p=0.5,1.0"]
    out = ["--out", str(tmp_path / "out"), "--phones", "none"]
    evaluate.main([*models, "--data", str(prepared_bundled), *out, *some, *QUICK])
    assert len(compiled) == 3  # for six rows
    assert max(compiled[1:]) <= 2


@pytest.mark.slow
def test_what_a_kill_left_undone_is_done_as_it_would_have_been(evaluated, tmp_path):
    out, arguments = evaluated
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    speech = copy / "systems" / "01" / "speech.jsonl"
    lines = speech.read_bytes().splitlines(keepends=True)
    speech.write_bytes(lines[0] + lines[1][:20])
    for path in [*(copy / "systems" / "01").glob("phones-*"), *(copy / "systems" / "01").glob("uncapped*")]:
        path.unlink()
    (copy / "systems" / "01" / "00001.wav").unlink()
    evaluate.main([str(copy) if one == str(out) else one for one in arguments])

    def results(folder):
        found = json.loads((folder / "report.json").read_text())["utterances"]
        return {
            row: [{k: v for k, v in one.items() if k != "computing"} for one in all_] for row, all_ in found.items()
        }

    assert results(copy) == results(out)


@pytest.mark.slow
def test_other_arguments_are_refused_with_what_differs(evaluated):
    _, arguments = evaluated
    with pytest.raises(
        InputError,
        match=r"holds another evaluation \(systems\.gar, top_p 1: .* there, null now\); choose another --out",
    ):
        evaluate.main(["top_p=0.5" if one.startswith("top_p") else one for one in arguments])


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not empty and not a folder of ellav evaluate"):
        claim(tmp_path, {})
    with pytest.raises(InputError, match="a file is in the way"):
        claim(tmp_path / "file", {})


@pytest.mark.slow
def test_sentences_are_spoken_in_the_voices_of_recordings(models, small_corpus, tmp_path):
    prompts, sentences, out = tmp_path / "voices", tmp_path / "list.txt", tmp_path / "out"
    prompts.mkdir()
    for one in [one for one in small_corpus.utterances if one.split == "test"][:2]:
        soundfile.write(prompts / f"{one.id}.wav", *one.audio.read())
        (prompts / f"{one.id}.txt").write_text(one.text)
    soundfile.write(prompts / "alone.wav", np.full(8000, 0.1), 8000)
    sentences.write_text("# two\nNo, no, no.\nA B C.\n")
    arguments = [*models, "--sentences", str(sentences), "--prompts", str(prompts), "--out", str(out), *QUICK]
    evaluate.main(arguments)
    report = json.loads((out / "report.json").read_text())
    assert [one["text"] for one in report["utterances"]["gar"]] == ["No, no, no.", "A B C."]
    assert 1 <= len(report["utterances"]["recordings of the prompts"]) <= 2
    assert [one["id"] for one in report["skipped"]] == ["alone"]
    assert len(list((tmp_path / "cache" / "ellav_jax" / "prompts").iterdir())) == 2
    assert ("gar", "duration") not in rows_of(out)


def test_the_bundled_corpus_is_meant_by_its_name_whatever_lies_here(tmp_path, monkeypatch):
    (tmp_path / "bundled").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(_prompt_recordings("bundled")) == 27


PROBE = """
<script>
window.addEventListener("error", event => { document.body.dataset.failed = event.message; });
window.addEventListener("load", async () => {
  const players = [...document.querySelectorAll("audio")];
  await Promise.all(players.map(one => one.readyState ? 0 : new Promise(done => {
    one.addEventListener("loadedmetadata", done); one.addEventListener("error", done); one.load();
  })));
  document.body.dataset.seconds = players.map(one => one.error ? "error" : one.duration.toFixed(2)).join(" ");
  const shown = [...document.querySelectorAll("svg")].map(one => one.getBoundingClientRect());
  document.body.dataset.drawn = shown.map(one => one.width > 300 && one.height > 100 ? "drawn" : "nothing").join(" ");
  const pictures = [...document.querySelectorAll("svg image")].map(one => one.getAttribute("xlink:href") || "");
  document.body.dataset.pictures = pictures.filter(one => one.startsWith("data:image/png")).length;
  const fetched = performance.getEntriesByType("resource").filter(one => !one.name.startsWith("data:"));
  document.body.dataset.fetched = fetched.length;
  document.body.dataset.wide = document.documentElement.scrollWidth > window.innerWidth ? "overflows" : "fits";
});
</script>
"""


@pytest.mark.slow
def test_a_browser_without_a_network_plays_and_draws_the_report(evaluated, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on PATH: tests/install_programs.sh")
    out, _ = evaluated
    page = tmp_path / "report.html"
    page.write_text((out / "report.html").read_text().replace("</body>", PROBE + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900"]
    # No host can be found: what is not inside the page is not there.
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--virtual-time-budget=60000", "--dump-dom"]
    dumped = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, timeout=240).stdout
    body = next(attributes for tag, attributes in Reader(dumped).elements if tag == "body")
    report = json.loads((out / "report.json").read_text())
    assert "data-failed" not in body
    seconds = [float(one) for one in body["data-seconds"].split()]
    spoken = [report["utterances"][row] for row in report["utterances"]]
    assert len(seconds) == 1 + len(spoken)
    assert any(seconds[1:] == [pytest.approx(row[i]["seconds"], abs=0.02) for row in spoken] for i in range(2))
    assert set(body["data-drawn"].split()) == {"drawn"}
    assert int(body["data-pictures"]) == 3  # spectrograms of the resynthesis and of two systems
    assert body["data-fetched"] == "0"
    assert body["data-wide"] == "fits"


@pytest.mark.parametrize(
    "changes, message",
    [
        ([], "expected either --data DIR .* or --sentences FILE"),
        (["--sentences", "hard"], "--sentences and --prompts go together"),
        (
            ["--data", "DATA", "--nar", "N", "--nar", "N"],
            "1 --gar and 3 --nar; expected one --nar, or one for each --gar",
        ),
        (["--data", "DATA", "--limit", "0"], "--limit 0; expected 1 or more"),
        (["--data", "DATA", "--shortest", "12", "--longest", "10"], "--shortest 12 is above --longest 10"),
        (
            ["--data", "DATA", "--sweep", "seed=1,2"],
            "--sweep seed=1,2; expected FIELD=V,V,… with one of top_p",
        ),
        (["--data", "DATA", "--sweep", "top_p=0.5,0.5"], "is there twice"),
        (["--data", "/nothing"], "no such data set"),
        (["--data", "DATA", "--recognizers", "ears"], "unknown recogniser 'ears'"),
        (["--data", "DATA", "--quality", "ears"], "--quality ears; expected dnsmos, installed or none"),
        (["--data", "DATA", "--phones", "ears"], "--phones ears; expected pocketsphinx, installed or none"),
        (["--data", "DATA", "--recognizers", "none", "--split", "night"], "no split 'night'"),
        (
            ["--data", "DATA", "--recognizers", "none", "--shortest", "9", "--longest", "9"],
            "none of 7 utterances can",
        ),
    ],
)
def test_bad_arguments_are_told(models, prepared_bundled, tmp_path, changes, message):
    changes = [str(prepared_bundled) if one == "DATA" else one for one in changes]
    quiet = [] if any(name in changes for name in ("--quality", "--phones")) else ["--quality", "none"]
    with pytest.raises(InputError, match=message):
        evaluate.main([*models, *changes, *quiet, "--speaker", "none", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_sweep_needs_something_to_sweep():
    assert parse_sweep(None, SamplingConfig()) == (None, [None])
    assert parse_sweep("top-p=0.5,1", SamplingConfig()) == ("top_p", [0.5, 1.0])
    with pytest.raises(InputError, match="is no list of numbers"):
        parse_sweep("top_p=a,b", SamplingConfig())
    with pytest.raises(InputError, match="greedy decoding"):
        parse_sweep("top_p=0.5", SamplingConfig(temperature=0))


def test_what_is_not_installed_is_left_out_by_default_and_said(monkeypatch, prepared_bundled):
    monkeypatch.setattr("launch.evaluation.metrics.find_spec", lambda name: None)
    frontend = Dataset.open(prepared_bundled).frontend
    metrics, left_out = choose_metrics(("none",), "installed", "installed", "installed", frontend)
    assert [metric.name for metric in metrics] == ["phones-pocketsphinx"]
    assert ["speaker similarity" in left_out[0], "DNSMOS" in left_out[1]] == [True, True]


def test_the_hard_sentences_are_a_hundred_different_ones():
    sentences = read_sentences(_sentence_text(HARD), HARD)
    assert len(sentences) == len(set(sentences)) == 100


def test_every_hard_sentence_has_phones(prepared_bundled):
    from data_pipelines.records import Dataset
    from ellav_jax.frontend.analyzer import TextAnalyzer

    analyzer = TextAnalyzer(Dataset.open(prepared_bundled).frontend)
    for sentence in read_sentences(_sentence_text(HARD), HARD):
        assert len(analyzer.phones(sentence)) > 3


def test_compiling_inside_compiling_is_counted_once():
    assert covered([(0, 4), (1, 2), (3, 6), (8, 9)]) == 7
    assert covered([]) == 0
