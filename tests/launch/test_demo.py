"""The demo: what it refuses at once, and (slow) the whole of it, interrupted, continued and reused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.corpora import open_corpus
from data_pipelines.corpora.utterance import Corpus
from ellav_jax.errors import InputError
from launch import cli
from launch.demo import PROMPT, SENTENCES, Notes, held_out_clips

ROOT = Path(__file__).parents[2]

# The demo on 12 clips and with models of one narrow layer.
SMALL_DEMO = """
import dataclasses, sys
from configs import prompts_small
from data_pipelines.corpora import open_corpus
from ellav_jax.models.transformer import TransformerConfig
from launch import cli, demo

def small(experiment):
    transformer = TransformerConfig.llama(num_layers=1, num_heads=2, width=32, ff_width=64, dtype="float32", remat="none")
    train = dataclasses.replace(experiment.train, log_every=1, evaluate_every=1000, checkpoint_every=1000)
    model = dataclasses.replace(experiment.model, transformer=transformer)
    return dataclasses.replace(experiment, model=model, train=train)

corpus = open_corpus("bundled")
spoken = [one for one in corpus.utterances if one.id in (demo.PROMPT, *demo.SENTENCES)]
learned = [one for one in corpus.utterances if one.split == "train"][::60][:8]
corpus = dataclasses.replace(corpus, utterances=[*spoken, *learned])
gar, nar = small(prompts_small.gar()), small(prompts_small.nar())
demo.open_corpus = lambda spec: corpus
prompts_small.gar, prompts_small.nar = lambda: gar, lambda: nar
sys.exit(cli.main(["demo", *sys.argv[1:]]))
"""


def start(*arguments: str | Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SMALL_DEMO, *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(*arguments: str | Path) -> tuple[list[str], float]:
    """Runs to the end: → lines printed, seconds taken."""
    begin = time.monotonic()
    process = start(*arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out.splitlines(), time.monotonic() - begin


def test_a_file_in_the_way_is_one_error_and_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert cli.main(["demo", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err == f"ellav: error: {tmp_path / 'out'}: a file is in the way; the demo wants a folder\n"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_of_something_else_is_refused_and_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("mine")
    assert cli.main(["demo", str(tmp_path)]) == 2
    assert "not empty and not a demo's folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_notes_of_something_else_are_refused(tmp_path):
    (tmp_path / "demo.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(InputError, match="not the notes of a demo"):
        Notes(tmp_path)


@pytest.mark.parametrize("option", ["--gar-steps", "--nar-steps"])
def test_no_steps_are_refused_before_anything_is_made(tmp_path, capsys, option):
    assert cli.main(["demo", str(tmp_path / "out"), option, "0"]) == 2
    assert f"{option} 0; expected at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_matplotlib_is_told_before_anything_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["demo", str(tmp_path / "out")]) == 2
    assert "ellav-jax[report]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prompt_and_sentences_are_held_out_clips_of_one_voice():
    prompt, sentences = held_out_clips(open_corpus("bundled"))
    assert (prompt.id, *(one.id for one in sentences)) == (PROMPT, *SENTENCES)
    assert {one.split for one in (prompt, *sentences)} == {"test"}
    assert {one.speaker for one in sentences} == {prompt.speaker}


def test_a_corpus_without_the_clips_is_refused():
    with pytest.raises(InputError, match=f"corpus empty: no {PROMPT}"):
        held_out_clips(Corpus("empty", "", "", []))


def test_times_of_interrupted_parts_add_up_and_a_part_made_anew_counts_anew(tmp_path):
    def work(seconds: float, interrupted: bool = False) -> float:
        notes = Notes(tmp_path)
        notes.page = {"source": "old"}
        with contextlib.suppress(KeyboardInterrupt), notes.timed("gar"):
            time.sleep(seconds)
            if interrupted:
                raise KeyboardInterrupt
        again = Notes(tmp_path)
        assert again.page is None
        return again.seconds["gar"]

    first = work(0.2, interrupted=True)
    (tmp_path / "gar").mkdir()
    assert work(0.2) >= first + 0.2
    (tmp_path / "gar").rmdir()
    assert work(0.0) < 0.1


@pytest.mark.slow
def test_the_demo_interrupted_continued_and_reused(tmp_path):
    out = tmp_path / "out"
    options = (out, "--gar-steps", "100", "--nar-steps", "2")
    process = start(*options)
    for line in process.stdout:
        if line.startswith("step 3/"):
            os.killpg(process.pid, signal.SIGINT)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "ellav: interrupted; the same command continues where this one stopped"
    assert not (out / "index.html").exists()

    lines, _ = finish(*options)
    assert f"{out / 'data'}: reused" in lines
    assert any(line.startswith("resumed at step ") for line in lines)
    assert lines[-4] == f"{out / 'index.html'}: open it in a browser"
    assert "held-out layer-1 accuracy" in lines[-3]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio ") == 4 * len(SENTENCES)
    assert "100 steps" in page
    assert "CC BY-SA 3.0" in page

    again, seconds = finish(*options)
    assert [line for line in again if line.endswith(": reused") or ": reused, " in line] == again[:4]
    assert again[4:] == lines[-4:]
    assert (out / "index.html").read_text(encoding="utf-8") == page
    assert seconds < 30
