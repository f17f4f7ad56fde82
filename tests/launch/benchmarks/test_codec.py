"""The codec's benchmark on a few seconds of speech."""

import numpy as np
import pytest

from ellav_jax.errors import InputError
from launch import cli
from launch.benchmarks.codec import measure_codec, run
from launch.benchmarks.record import read_record


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_both_codecs_are_timed_on_the_same_clips(direction):
    point, found = measure_codec("bundled", direction, True, seconds=2, repetitions=2)
    assert point.settings["direction"] == direction and point.settings["sha256"]
    ours, theirs = point.measures["ours"], point.measures["encodec"]
    assert ours.ours and not theirs.ours
    assert ours.work == theirs.work
    # Frames are whole.
    assert ours.work["audio_seconds"] == pytest.approx(2, abs=1e-3 if direction == "encode" else 2 / 75)
    [ratios] = point.ratios["speed over the encodec package's"]
    np.testing.assert_allclose(ratios, np.divide(theirs.seconds[0], ours.seconds[0]))
    assert {"jax", "torch", "encodec"} <= set(found["versions"])
    assert point.figures["peak_bytes"] > 50e6
    if direction == "encode":
        assert point.figures["codes_equal"] >= 0.999


@pytest.mark.slow
def test_the_command_measures_encoding_and_decoding(tmp_path, capsys):
    options = ["--seconds", "2", "--repetitions", "2", "--json", str(tmp_path / "codec.json")]
    assert cli.main(["bench", "codec", *options]) == 0
    points = read_record(tmp_path / "codec.json").points
    assert [point.label for point in points] == [{"direction": "encode"}, {"direction": "decode"}]
    assert "audio-s/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"repetitions": 0}, {"runs": 0}, {"codec": "encodec:bundled", "against": "encodec"}]
)
def test_senseless_options_are_refused(options):
    with pytest.raises(InputError, match="bench codec"):
        run(**options)
