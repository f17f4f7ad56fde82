"""`ellav bench decode` on a small GAR, beside PyTorch."""

import numpy as np
import pytest

from configs.experiment import find_experiment
from ellav_jax.errors import InputError
from launch import cli
from launch.benchmarks.decode import run
from launch.benchmarks.decoding import DecodeRequest, measure_decoding
from launch.benchmarks.points import ModelOptions
from launch.benchmarks.record import read_record


def test_ours_and_the_opponents_say_the_same_and_are_timed(experiments):
    pytest.importorskip("torch")
    name = f"{experiments}:gar"
    point, found = measure_decoding(DecodeRequest(name, find_experiment(name), {"batch": 2}, 2, 0.25, 2, True))
    assert {"ours", "twin, 1 thread", "Llama, 1 thread"} <= set(point.measures)
    assert {"jax", "torch"} <= set(found["versions"])
    for measure in point.measures.values():
        assert len(measure.seconds[0]) == 2 and min(measure.seconds[0]) > 0
    ours = point.measures["ours"]
    assert ours.ours and not point.measures["twin, 1 thread"].ours
    # 3 phones: each has its frames and a call that ends it.
    frames = round(ours.work["row_audio_seconds"] * 75)
    assert ours.work["calls"] == frames + 3
    assert ours.work["audio_seconds"] == 2 * ours.work["row_audio_seconds"]
    assert point.figures["codes_equal"] == 1
    fastest = point.measures[point.notes["PyTorch's fastest"]]
    [ratios] = point.ratios["audio-s/s over PyTorch's fastest"]
    np.testing.assert_allclose(ratios, np.divide(fastest.seconds[0], ours.seconds[0]))


@pytest.mark.slow
def test_the_command_measures_every_batch_and_layout(experiments, tmp_path, capsys):
    file = tmp_path / "figures.json"
    options = ["--batch", "1,2", "--layout", "compact,paper,valle", "--seconds", "0.5", "--repetitions", "2"]
    assert cli.main(["bench", "decode", "--experiment", f"{experiments}:gar", *options, "--json", str(file)]) == 0
    points = read_record(file).points
    assert [tuple(point.label.values()) for point in points] == [
        (layout, batch) for layout in ("compact", "paper", "valle") for batch in (1, 2)
    ]
    calls = [point.measures["ours"].work["calls"] for point in points]
    # The paper's layout feeds EOP and then the phone; VALL-E's has neither.
    assert calls[2] == calls[0] + 5 and calls[4] == calls[0] - 5
    assert "ms/call" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": ModelOptions(kind="nar")}, "prompts_small.nar is no GAR"),
        ({"batch": ""}, "--batch : expected whole numbers"),
        ({"batch": "0"}, "--batch 0: expected whole numbers"),
        ({"seconds": 0.0}, "expected above 0 of each"),
        ({"repetitions": 0}, "expected above 0 of each"),
        ({"options": ModelOptions(kind="valle"), "against": "torch"}, "compares the compact layout"),
        ({"options": ModelOptions(preset="paper"), "against": "torch"}, "librispeech.gar has compact with 3"),
    ],
)
def test_what_cannot_be_measured_is_told(options, message):
    with pytest.raises(InputError, match=message):
        run(**options)
