"""The file of a benchmark: what is written comes back, what is not one is refused."""

import dataclasses
import json

import numpy as np
import pytest

from ellav_jax.errors import InputError
from launch.benchmarks.record import Measure, Point, Record, environment, join_runs, read_record, write_record
from launch.benchmarks.table import report


def _point(*seconds: float, peak: float = 1.0) -> Point:
    return Point(
        settings={"experiment": "a.b", "data": {"batch_rows": 2}},
        label={"batch": 2},
        measures={"loop": Measure([list(seconds)], {"positions": 100.0, "model_flops": 2e12})},
        ratios={"positions/s over torch's": [[1.5, 1.25, 2.0]]},
        figures={"peak_bytes": peak, "peak_flops": None, "compile_seconds": 3.0, "others_share": 0.25},
        notes={"torch": "fused"},
    )


@pytest.fixture
def record() -> Record:
    return Record("train", {"steps": 3}, environment(["numpy", "no-such-package"]), [_point(0.5, 0.25, 0.2)])


def test_a_record_is_read_as_it_was_written_and_has_its_medians_for_other_readers(tmp_path, record):
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record
    written = json.loads((tmp_path / "r.json").read_text())
    loop = written["points"][0]["measures"]["loop"]
    assert loop["median"] == 0.25
    assert loop["rates"] == {"positions_per_second": 400.0, "model_flops_per_second": 8e12}
    assert written["points"][0]["ratios"]["positions/s over torch's"]["value"] == 1.5
    assert written["schema_version"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "no benchmark of this project"),
        ('{"format": "ellav-jax benchmark", "schema_version": 99}', "schema version 99, expected 1"),
        ('{"format": "ellav-jax benchmark", "schema_version": 1, "points": [{}]}', "incomplete"),
    ],
)
def test_another_file_is_refused(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_record(tmp_path / "r.json")


def test_runs_of_a_point_are_kept_apart_and_the_highest_peak_counts():
    joined = join_runs([_point(1, 2), _point(3, 4, peak=5.0), _point(5, 6)])
    assert joined.measures["loop"].seconds == [[1, 2], [3, 4], [5, 6]]
    assert len(joined.ratios["positions/s over torch's"]) == 3
    assert joined.figures == {"peak_bytes": 5.0, "peak_flops": None, "compile_seconds": 3.0, "others_share": 0.25}


def test_what_is_printed_names_all_of_it(record, capsys, tmp_path):
    assert report(record, tmp_path / "r.json") is record
    assert (tmp_path / "r.json").exists()
    table, *lines = capsys.readouterr().out.split("\nbatch=2: ")
    heads, cells = table.splitlines()[0].split(), table.splitlines()[2].split()
    assert heads[0] == "batch" and {"pos/s", "TFLOP/s", "MFU"} <= set(heads)
    # Median and spread in ms and %, the rates, no MFU where the peak is unknown.
    assert cells[:7] == ["2", "loop", "250.0", "60.0%", "400", "8", "–"]
    assert cells[-1] == "25%"
    assert lines[0].startswith("positions/s over torch's: 1.50 × [1.25, 2.00]")
    machine = capsys.readouterr().out + lines[-1]
    assert f"numpy {np.__version__}" in machine and "no-such-package" not in machine


def test_mfu_is_the_share_of_all_devices_peak(record, capsys):
    point = record.points[0]
    known = dataclasses.replace(point, figures=point.figures | {"peak_flops": 1.6e13})
    report(dataclasses.replace(record, points=[known]), None)
    assert "50.0%" in capsys.readouterr().out
