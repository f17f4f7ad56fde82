"""The codec's benchmark on a few seconds of speech."""

import pytest

from ellav_jax.errors import InputError
from ellav_jax.files import read_json
from launch.bench_codec import run


def test_figures_of_both_codecs_are_printed_and_written(tmp_path, capsys):
    figures = run(against="encodec", seconds=2, repetitions=2, json=tmp_path / "codec.json")
    assert read_json(tmp_path / "codec.json", "benchmark") == figures
    assert figures["audio_seconds"] == pytest.approx(2, abs=1e-3)
    assert [(row["direction"], row["codec"]) for row in figures["rows"]] == [
        ("encode", "bundled"),
        ("encode", "encodec:bundled"),
        ("decode", "bundled"),
        ("decode", "encodec:bundled"),
    ]
    for row in figures["rows"]:
        assert len(row["seconds"]) == 2
        assert row["times_real_time"] == pytest.approx(figures["audio_seconds"] / row["median_seconds"])
    encode = [row["median_seconds"] for row in figures["rows"][:2]]
    assert figures["ratio"]["encode"] == pytest.approx(encode[1] / encode[0])
    assert figures["codes_equal"] >= 0.999
    out = capsys.readouterr().out
    assert "x real time" in out
    assert "of the codes equal" in out


@pytest.mark.parametrize("options", [{"seconds": 0}, {"repetitions": 0}, {"codec": "encodec:bundled"}])
def test_senseless_options_are_refused(options):
    with pytest.raises(InputError, match="bench codec"):
        run(against="encodec", **options)
