"""`ellav bench decode` on a small GAR, beside PyTorch."""

import json

import numpy as np
import pytest

from ellav_jax.errors import InputError
from launch import cli
from launch.bench_decode import run

pytest.importorskip("torch")


def test_ours_and_the_opponents_say_the_same_and_are_timed(experiments, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["bench", "decode", "--experiment", f"{experiments}:gar", "--batch", "1", "2", "--seconds", "0.5"]
    assert cli.main([*arguments, "--repetitions", "2", "--against", "torch", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert [row["batch"] for row in figures["rows"]] == [1, 2]
    for row in figures["rows"]:
        names = set(row["seconds"])
        assert {"ours", "twin, 1 thread", "Llama, 1 thread"} <= names
        assert all(len(times) == 2 and min(times) > 0 for times in row["seconds"].values())
        # 6 phones: each has its frames and a call that ends it.
        frames = round(row["audio_seconds"] * 75 / row["batch"])
        assert row["calls"] == frames + 6
        assert row["codes_equal"] == 1
        assert row["fastest"] in names - {"ours"}
        ours = np.median(row["seconds"]["ours"])
        assert row["audio_seconds_per_second"]["ours"] == pytest.approx(row["audio_seconds"] / ours)
    printed = capsys.readouterr().out
    assert "Llama" in printed and "audio-s/s of PyTorch's fastest" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experiment": "prompts_small.nar"}, "prompts_small.nar is no GAR"),
        ({"batch": ()}, "expected above 0 of each"),
        ({"seconds": 0.0}, "expected above 0 of each"),
        ({"repetitions": 0}, "expected above 0 of each"),
        ({"experiment": "prompts_small.valle", "against": "torch"}, "compares the compact layout"),
    ],
)
def test_what_cannot_be_measured_is_told(options, message):
    with pytest.raises(InputError, match=message):
        run(**options)
