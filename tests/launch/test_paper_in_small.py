"""The paper in small: its parts, what it refuses at once, its document, and (slow) the whole of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.experiment import find_experiment
from launch import cli
from launch.marked_document import BEGIN, END
from launch.paper_in_small import SYSTEMS, Arguments, make_parts
from launch.paper_in_small_document import write_document

ROOT = Path(__file__).parents[2]


def words_behind(command, option):
    return [command[place + 1] for place, word in enumerate(command) if word == option]


def test_every_system_is_trained_with_one_budget_and_speaks_with_a_nar_of_its_local_advance():
    parts = make_parts(Arguments(Path("out"), gar_steps=7, nar_steps=9))
    budgets = set()
    for name, nar in SYSTEMS.items():
        experiment = find_experiment(parts[name][1])
        assert words_behind(parts[name], "--train.steps") == ["7"]
        assert words_behind(parts[nar], "--train.steps") == ["9"]
        budgets.add((experiment.data, experiment.train, experiment.model))
        advance = words_behind(parts[nar], "--layout.local-advance") or ["0"]
        assert [str(experiment.layout.local_advance)] == advance
    assert len(budgets) == 1
    assert len({find_experiment(parts[name][1]).layout for name in SYSTEMS}) == len(SYSTEMS)


def test_all_systems_speak_greedily_and_over_top_p_and_two_of_them_the_hard_sentences():
    parts = make_parts(Arguments(Path("out"), recognizers=("pocketsphinx", "faster-whisper:tiny")))
    for name in ("greedy", "sampled"):
        assert [Path(path).name for path in words_behind(parts[name], "--gar")] == list(SYSTEMS)
        assert [Path(path).name for path in words_behind(parts[name], "--nar")] == list(SYSTEMS.values())
    assert words_behind(parts["greedy"], "--temperature") == ["0"]
    assert words_behind(parts["sampled"], "--sweep") == ["top_p=0.5,0.8,1.0"]
    assert [Path(path).name for path in words_behind(parts["hard"], "--gar")] == ["gar", "valle"]
    assert "hard" not in make_parts(Arguments(Path("out"), systems=("paper_layout",)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--systems", "gar", "vale"], "vale: unknown; there are gar, paper_layout, valle"),
        (["--systems", "gar", "gar"], "expected each system once"),
        (["--document", "absent.md"], "absent.md: no such file"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(tmp_path, capsys, options, said):
    assert cli.main(["paper-in-small", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_document_without_marks_and_a_folder_of_something_else_are_refused(tmp_path, capsys):
    document = tmp_path / "mine.md"
    document.write_text(f"{END} {BEGIN}")
    assert cli.main(["paper-in-small", str(tmp_path / "out"), "--document", str(document)]) == 2
    assert f"{document}: expected one line {BEGIN}" in capsys.readouterr().err
    assert cli.main(["paper-in-small", str(tmp_path)]) == 2
    assert f"{tmp_path}: in the way" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.md"]


def _report(folder, rows):
    figures = [
        {
            "row": row,
            "table": table,
            "column": column,
            "value": value,
            "low": value - 1,
            "high": value + 2,
            "utterances": 3,
        }
        for row, table, column, value in rows
    ]
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"figures": figures}))


def test_the_document_holds_every_figure_between_its_marks_and_nothing_else_changes(tmp_path):
    out, document = tmp_path / "out", tmp_path / "text.md"
    stable, judge = "Stability and speed", "faster-whisper:/some/where"
    _report(
        out / "greedy", [("recordings", judge, "WER %", 5.5), ("gar", judge, "WER %", 41.25), ("gar", stable, "SPK", 7)]
    )
    points = [("gar, top_p 0.5", judge, "WER %", 61.0), ("gar, top_p 1", judge, "WER %", 71.0)]
    _report(out / "sampled", points)
    (out / "gar").mkdir()
    held_out = {"step": 240, "split": "held_out", "layer_1_loss": 3.1234, "layer_1_accuracy": 0.25}
    (out / "gar" / "metrics.jsonl").write_text(json.dumps(held_out) + "\n")
    document.write_text(f"Ahead.\n\n{BEGIN}\nold\n{END}\n\nBehind.\n")

    write_document(document, out, ["gar"], {"data": 30.0, "gar": 90.0})
    text = document.read_text()
    assert text.startswith(f"Ahead.\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nBehind.\n")
    assert "old" not in text
    assert "/some/where" not in text
    lines = text.splitlines()
    assert "| gar | 240 | 3.123 | 25.0 | 1.5 |" in lines
    assert "| recordings | 5.5 [4.5, 7.5] |" in lines
    assert "| gar | 41.2 [40.2, 43.2] |" in lines
    assert "| gar, top_p 0.5 | 61.0 |" in lines
    assert "| data | 0.5 |" in lines
    svg = document.with_suffix(".svg").read_text()
    assert f"]({document.with_suffix('.svg').name})" in text
    assert "WER %, faster-whisper" in svg
    assert "var(" not in svg

    write_document(document, out, ["gar"], {"data": 30.0, "gar": 90.0})
    assert document.read_text() == text


@pytest.mark.slow
def test_the_paper_in_small_trains_speaks_and_writes_its_tables_and_does_nothing_twice(tmp_path):
    command = [sys.executable, "-m", "launch.cli", "paper-in-small", str(tmp_path / "out"), "--systems", "gar", "valle"]
    command += ["--gar-steps", "2", "--nar-steps", "2", "--limit", "2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    text = (tmp_path / "out" / "paper_in_small.md").read_text()
    for system in ("gar", "valle"):
        for point in ("0.5", "0.8", "1"):
            assert f"| {system}, top_p {point} |" in text
    assert text.count("| codec resynthesis") >= 3
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert first.stdout.count("fresh start at step 0") == 3
    assert "fresh start" not in again.stdout
