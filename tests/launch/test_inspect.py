import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.corpora.utterance import AudioFile
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from launch.inspect import main

ROOT = Path(__file__).parents[2]


def test_totals_are_those_of_the_records(prepared_bundled, capsys):
    main([str(prepared_bundled)])
    out = capsys.readouterr().out
    dataset = Dataset.open(prepared_bundled)
    for split in ("train", "test"):
        source = dataset.records(split)
        records = [source[i] for i in range(len(source))]
        phones, frames = sum(len(r.phones_N) for r in records), sum(len(r.codes_Tx8) for r in records)
        assert f"{split}: {len(records)} utterances, 1 speaker, {frames / 75 / 3600:.2f} h, 2 shards" in out
        assert f"{phones} phones, {frames} frames: {phones / frames * 75:.1f} phones a second" in out
    assert "found      25 utterances = 25 written + 0 quarantined" in out
    assert "CC BY-SA 3.0" in out


def test_the_histogram_counts_every_utterance(prepared_bundled, capsys):
    main([str(prepared_bundled), "--split", "train"])
    out = capsys.readouterr().out
    rows = re.findall(r"^ +([\d.]+) - +([\d.]+) s +(\d+)  (#*)$", out, re.MULTILINE)
    seconds = Dataset.open(prepared_bundled).lengths("train")[1] / 75
    assert sum(int(count) for _, _, count, _ in rows) == len(seconds)
    assert float(rows[0][0]) == pytest.approx(seconds.min(), abs=0.01)
    assert float(rows[-1][1]) == pytest.approx(seconds.max(), abs=0.01)
    longest_bar = max(rows, key=lambda row: len(row[3]))
    assert longest_bar[2] == str(max(int(count) for _, _, count, _ in rows))
    assert "test:" not in out


def test_one_utterance_shows_its_phones_over_its_frames(prepared_bundled, capsys):
    dataset = Dataset.open(prepared_bundled)
    record = dataset.records("train")[3]
    main([str(prepared_bundled), "--utterance", record.id])
    lines = capsys.readouterr().out.splitlines()
    assert record.text in lines[0]
    picture = lines[3 : lines.index("phone   frames      from s   codes of the first codebook")]
    track = "".join(line for line in picture if line and not line.lstrip().startswith("'"))
    # A character a frame, a bar where a phone begins: the durations can be read off the picture.
    assert len(track) == len(record.codes_Tx8)
    begins = [i for i, character in enumerate(track) if character == "|"]
    np.testing.assert_array_equal(np.diff([*begins, len(track)]), record.durations_N)
    rows = [
        line.split() for line in lines[lines.index("phone   frames      from s   codes of the first codebook") + 1 :]
    ]
    assert [row[0] for row in rows] == [dataset.frontend.phones[i] for i in record.phones_N]
    assert [int(row[1]) for row in rows] == record.durations_N.tolist()
    assert int(rows[0][3]) == record.codes_Tx8[0, 0]


def test_reasons_of_the_quarantine_are_counted(small_corpus, codec_facts, tmp_path, capsys):
    good = small_corpus.utterances[0]
    bad = [dataclasses.replace(good, id=f"bad {i}", audio=AudioFile(tmp_path / f"{i}.wav")) for i in range(2)]
    corpus = dataclasses.replace(small_corpus, utterances=[good, *bad])
    prepare(corpus, tmp_path / "out", codec_facts, default_frontend(), PrepareConfig(), LocalEngine(1))
    main([str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert "3 utterances = 1 written + 2 quarantined" in out
    assert "2 x audio-missing: there is no such recording" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--utterance", "nobody"], r"no utterance 'nobody' in train, test; ids look like '"),
        (["--split", "dev"], r"no split 'dev'; it has: train, test"),
    ],
)
def test_unknown_names_are_refused(prepared_bundled, arguments, message):
    with pytest.raises(InputError, match=message):
        main([str(prepared_bundled), *arguments])


def test_inspecting_needs_no_device(ellav, prepared_bundled):
    done = ellav("inspect", prepared_bundled)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "25 utterances" in done.stdout


def test_inspecting_imports_neither_jax_nor_torch(prepared_bundled):
    code = (
        f"import sys; from launch.cli import main; main(['inspect', {str(prepared_bundled)!r}]); "
        "print(sorted({'jax', 'flax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
