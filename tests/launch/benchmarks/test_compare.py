"""`ellav bench compare`: verdicts on made repetitions, and what it refuses to compare."""

import dataclasses
from collections.abc import Sequence

import pytest

from launch import cli
from launch.benchmarks.record import Measure, Point, Record, environment, write_record

QUIET = (1.0, 1.01, 0.99, 1.005, 0.995, 1.002)
NOISY = (0.8, 1.3, 0.9, 1.2, 1.0, 1.1)


def _record(seconds: Sequence[float], ours: bool = True, **figures: float) -> Record:
    point = Point(
        settings={"experiment": "a.b", "data": {"batch_rows": 2}, "devices": 1},
        label={"batch": 2},
        measures={"loop": Measure([list(seconds)], {"positions": 100.0}, ours)},
        figures={"others_share": 0.0, **figures},
    )
    return Record("train", {"steps": 3}, environment(["numpy"]), [point])


@pytest.fixture
def compare(tmp_path, capsys):
    """`compare(old, new, *options)` → exit status, stdout, stderr."""

    def run(old: Record, new: Record, *options: str) -> tuple[int, str, str]:
        write_record(tmp_path / "old.json", old)
        write_record(tmp_path / "new.json", new)
        status = cli.main(["bench", "compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), *options])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("old", "factor", "verdict", "status"),
    [
        (QUIET, 1.0, "no difference seen", 0),
        (QUIET, 1.12, "slower", 1),
        (QUIET, 1.03, "slower", 0),  # seen, and within the tolerance
        (QUIET, 0.8, "faster", 0),
        (NOISY, 1.12, "no difference seen", 0),  # such noise does not let one see it
        (QUIET[:4], 2.0, "too few repetitions", 0),
    ],
)
def test_verdict_and_exit_status(compare, old, factor, verdict, status):
    found, out, error = compare(_record(old), _record([factor * one for one in old]))
    assert found == status
    assert verdict in out
    assert ("slower by more than the tolerance of 5.0%: batch=2 loop +12" in error) == bool(status)


def test_the_tolerance_can_be_chosen(compare):
    slower = _record([1.12 * one for one in QUIET])
    assert compare(_record(QUIET), slower, "--tolerance", "0.2")[0] == 0
    assert compare(_record(QUIET), _record([1.03 * one for one in QUIET]), "--tolerance", "0.01")[0] == 1
    assert compare(_record(QUIET), slower, "--tolerance", "-1")[0] == 2


def test_an_opponent_that_is_slower_is_no_regression_of_ours(compare):
    status, out, _ = compare(_record(QUIET, ours=False), _record([2 * one for one in QUIET], ours=False))
    assert status == 0
    assert "slower (not ours)" in out


def _with(record: Record, **changes: object) -> Record:
    point = record.points[0]
    if "environment" in changes:
        changes["environment"] = record.environment | changes["environment"]
    if "settings" in changes:
        changes["points"] = [dataclasses.replace(point, settings=point.settings | changes.pop("settings"))]
    return dataclasses.replace(record, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"environment": {"cores": 99}}, "cores: "),
        ({"environment": {"cpu": "another"}}, "cpu: "),
        ({"environment": {"flags": {"XLA_FLAGS": "--xla"}}}, "flags.XLA_FLAGS:  there, --xla now"),
        ({"protocol": {"steps": 4}}, "steps: 3 there, 4 now"),
        ({"settings": {"data": {"batch_rows": 8}}}, "batch=2: data.batch_rows: 2 there, 8 now"),
        ({"points": []}, "1 points there, 0 now"),
    ],
)
def test_what_was_measured_otherwise_is_refused_with_what_differs(compare, changes, named):
    old = _record(QUIET)
    status, _, error = compare(old, _with(old, **changes))
    assert status == 2
    assert " ".join(named.split()) in error
    if "points" not in changes:
        status, out, _ = compare(old, _with(old, **changes), "--anyway")
        assert status == 0 and f"differs: {named}" in out and "no difference seen" in out


def test_another_revision_other_versions_and_a_setting_of_later_days_are_no_hindrance(compare):
    old = _record(QUIET)
    new = _with(old, environment={"revision": "abc", "versions": {"jax": "99"}}, settings={"new_option": 1})
    status, out, _ = compare(old, new)
    assert status == 0 and "revision abc" in out


def test_other_benchmarks_are_refused_even_so(compare):
    old = _record(QUIET)
    assert compare(old, dataclasses.replace(old, benchmark="decode"), "--anyway")[0] == 2


def test_a_busy_machine_and_memory_that_grew_are_told(compare):
    _, out, _ = compare(_record(QUIET, peak_bytes=1e9), _record(QUIET, peak_bytes=1.5e9, others_share=0.4))
    assert "peak_bytes 1e+09 there, 1.5e+09 now (+50.0%)" in out
    assert "warning: other processes took up to 40% of the cores while new was measured" in out
