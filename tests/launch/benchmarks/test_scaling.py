"""`ellav bench scaling`: tables and figure of made records and of a plan's file."""

import xml.etree.ElementTree as ET

import pytest

from ellav_jax.errors import InputError
from ellav_jax.files import write_json
from launch import cli
from launch.benchmarks.record import Measure, Point, Record, environment, write_record
from launch.benchmarks.scaling import estimates_of, line_of

PLAN = {
    "experiment": "librispeech_pod.gar",
    "points": [
        {
            "topology": "v5p-256",
            "devices": 128,
            "workload": {"rows": 1024, "data": 128, "fsdp": 1, "tensor": 1, "transformer": {"remat": "none"}},
            "memory": {"capacity": 1e11, "needed": 9730 * 2**20},
            "roofline": {"mfu": 0.8},
            "estimate": {"seconds": 0.15, "mfu": 0.48, "seconds_by_cost": 0.12},
        },
        {"topology": "v5e-8", "estimate": None},  # did not fit
    ],
}


def _record(platform: str = "cpu", scaling: str = "weak") -> Record:
    points = [
        Point(
            settings={"experiment": "a.b", "devices": devices, "processes": 1, "data": {"batch_rows": 2 * devices}},
            label={"devices": devices},
            measures={"loop": Measure([[seconds] * 3], {"positions": 1000.0 * devices})},
            figures={"peak_bytes": 2.0**30, "others_share": 0.02},
        )
        for devices, seconds in ((4, 8.0), (1, 1.0), (2, 2.5))
    ]
    return Record("train", {"scaling": scaling}, environment([]) | {"platform": platform}, points)


@pytest.mark.parametrize(("platform", "kept"), [("cpu", [1, 0.8, 0.5]), ("gpu", [1, 0.4, 0.125])])
def test_virtual_devices_are_to_keep_the_rate_and_real_ones_to_multiply_it(tmp_path, platform, kept):
    line = line_of(tmp_path, _record(platform))
    assert [one.devices for one in line.points] == [1, 2, 4]
    assert [one.rate.value for one in line.points] == [1000, 800, 500]
    assert [one.kept.value for one in line.points] == pytest.approx(kept)
    assert line.shared_cores == (platform == "cpu")


def test_a_plan_is_read_with_its_two_estimates(tmp_path):
    write_json(tmp_path / "plan.json", PLAN)
    [one] = estimates_of(tmp_path / "plan.json")
    assert (one.name, one.devices, one.mesh) == ("v5p-256, 1,024 rows, remat none", 128, "128 × 1 × 1")
    assert (one.roofline, one.cycles) == (0.8, 0.48)
    assert one.cost_analysis == pytest.approx(0.48 * 0.15 / 0.12)
    write_json(tmp_path / "other.json", {"points": [{}]})
    with pytest.raises(InputError, match="no file of `ellav plan"):
        estimates_of(tmp_path / "other.json")


def test_tables_and_figure_tell_measured_and_estimated_apart(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write_record(tmp_path / "cpu.json", _record())
    write_json(tmp_path / "plan.json", PLAN)
    document = tmp_path / "scaling.md"
    document.write_text("Above.\n<!-- tables -->\nold\n<!-- end of tables -->\nBelow.\n")
    command = ["bench", "scaling", str(tmp_path / "cpu.json"), "--plan", str(tmp_path / "plan.json")]
    assert cli.main(command) == 0
    tables = capsys.readouterr().out
    assert cli.main([*command, "--document", str(document)]) == 0
    written = document.read_text()
    assert written.startswith("Above.\n") and written.endswith("\nBelow.\n") and "old" not in written
    assert tables.strip() in written and "](scaling.svg)" in written
    assert "| a.b | weak | 2 | 1 | 4 | 800 [800, 800] | 80.0% | 1,024 | 2% |" in tables
    assert "| v5p-256, 1,024 rows, remat none | 128 | 128 × 1 × 1 | 9,730 | 150.0 | 80.0% | 48.0% | 60.0% |" in tables
    texts = " ".join(ET.parse(tmp_path / "scaling.svg").getroot().itertext())
    assert "Measured: positions/s" in texts and "Estimated, nothing run" in texts and "sharing the cores" in texts


def test_a_record_of_something_else_is_refused(tmp_path):
    record = _record()
    with pytest.raises(InputError, match="expected a file of `ellav bench train --devices"):
        line_of(tmp_path, Record("decode", {}, record.environment, record.points))
    with pytest.raises(InputError, match="several points have the same number of devices"):
        line_of(tmp_path, Record("train", record.protocol, record.environment, record.points * 2))
