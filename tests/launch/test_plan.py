"""`ellav plan`: its report on given figures, and, slow, on what the real compiler says."""

import dataclasses
import json

import numpy as np
import pytest

from configs.experiment import find_experiment
from data_pipelines.packing import PackingPlan
from ellav_jax.errors import InputError, RunError
from ellav_jax.hardware import find_topology
from ellav_jax.planning.aot import CompiledStep, DoesNotFit, libtpu_found
from ellav_jax.planning.program_text import Collective
from launch import cli, plan
from launch.planning import child as plan_child
from launch.planning import content as plan_content
from launch.planning.content import step_content, workload_of

EXPERIMENTS = """
import dataclasses

from configs.librispeech import gar as published
from ellav_jax.models.nar import NarConfig
from ellav_jax.models.transformer import TransformerConfig

SIZE = TransformerConfig.paper(num_layers=3, num_heads=2, width=128, ff_width=256, remat="full")


def gar():
    whole = published()
    model = dataclasses.replace(whole.model, transformer=SIZE)
    return dataclasses.replace(whole, model=model, data=dataclasses.replace(whole.data, row_length=4096, batch_rows=32))


def nar():
    return dataclasses.replace(gar(), model=NarConfig(SIZE))
"""

GIB = 1 << 30


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "small.py"
    path.write_text(EXPERIMENTS)
    return path


@pytest.fixture
def compiler(monkeypatch):
    """Stands in for the compiler: memory grows with the rows and as less is recomputed; from 12 GiB on nothing fits."""
    asked = []

    def compile_elsewhere(experiment, topology):
        asked.append((experiment, topology))
        factor = {"none": 8, "dots": 4, "attention": 2, "full": 1}[experiment.model.transformer.remat]
        needed = factor * experiment.data.batch_rows / 32 * GIB
        if needed > 12 * GIB:
            raise DoesNotFit(needed, 12 * GIB)
        cycles = 1_500_000 * experiment.data.batch_rows // 32 * (12 - factor) // 8
        return CompiledStep(0.1, 9.5, int(needed), GIB // 4, cycles, 2e-3, (Collective("all-reduce", 3, 5 << 20),))

    monkeypatch.setattr(plan, "compile_elsewhere", compile_elsewhere)
    return asked


def _plan(*arguments):
    return cli.main(["plan", *map(str, arguments)])


def test_the_report_has_the_figures_of_the_step(small, compiler, tmp_path, capsys):
    assert _plan(f"{small}:gar", "--topology", "v5e-16", "--json", tmp_path / "plan.json") == 0
    out = capsys.readouterr().out
    assert "16 devices, 4 hosts, 1 slice of 4x4 chips; mesh data=16 fsdp=1 tensor=1" in out
    assert "131,072 positions, 99.8% of them real" in out
    assert "1.00 GiB of 15.75 GiB a device" in out
    assert "3 all-reduce (5 MiB)" in out
    [point] = json.loads((tmp_path / "plan.json").read_text())["points"]
    # 1.5 M cycles · 11 / 8 at 1.5 GHz.
    assert point["estimate"]["operations"] == pytest.approx(1.375e-3, rel=1e-6)
    assert point["estimate"]["seconds"] == point["estimate"]["operations"] + point["estimate"]["attention_kernel"]
    # The compiler's other figure, with the same kernel.
    assert point["estimate"]["seconds_by_cost"] == pytest.approx(2e-3 + point["estimate"]["attention_kernel"])
    share = point["content"]["model_flops"] / (16 * 1.97e14 * point["estimate"]["seconds"])
    assert point["estimate"]["mfu"] == pytest.approx(share)


def test_a_kernels_time_is_added_where_attention_is_one(small, compiler, tmp_path):
    seconds = {}
    for attention in ("auto", "pallas_tpu", "splash", "xla"):
        out = tmp_path / f"{attention}.json"
        assert (
            _plan(f"{small}:gar", "--topology", "v5e-16", "--model.transformer.attention", attention, "--json", out)
            == 0
        )
        [point] = json.loads(out.read_text())["points"]
        seconds[attention] = point["estimate"]["attention_kernel"]
    # Segments fill a part of the rows that splash works through.
    assert seconds["splash"] > seconds["auto"] == seconds["pallas_tpu"] > seconds["xla"] == 0


def test_fields_of_the_experiment_reach_the_compiler(small, compiler):
    assert _plan(f"{small}:gar", "--topology", "2xv5e-4", "--data.batch-rows", 64, "--mesh.fsdp", 2) == 0
    [(experiment, topology)] = compiler
    assert (experiment.data.batch_rows, experiment.mesh.fsdp, topology) == (64, 2, "2xv5e-4")


def test_a_search_tries_batch_by_recomputation_and_marks_the_fastest_that_fits(small, compiler, tmp_path, capsys):
    assert _plan(f"{small}:gar", "--topology", "v5e-16", "--search", "--json", tmp_path / "search.json") == 0
    out = capsys.readouterr().out
    tried = [(one.model.transformer.remat, one.data.batch_rows) for one, _ in compiler]
    assert tried[:2] == [("none", 32), ("none", 64)]  # 16 GiB: larger batches need not be tried
    assert tried[2:5] == [("dots", 32), ("dots", 64), ("dots", 128)]
    assert out.count("too large") == 2  # of none at 64 rows, of dots at 128
    points = json.loads((tmp_path / "search.json").read_text())["points"]
    fitting = [point for point in points if point["estimate"] and point["memory"]["needed"] <= 0.8 * 15.75 * GIB]
    best = max(fitting, key=lambda point: point["estimate"]["mfu"])
    [marked] = [line for line in out.splitlines() if line.endswith("* │")]
    assert best["workload"]["transformer"]["remat"] in marked
    assert f" {best['workload']['rows']} " in marked


def test_a_step_that_does_not_fit_ends_in_one_line_behind_the_report(small, compiler, capsys):
    assert _plan(f"{small}:gar", "--topology", "v5e-16", "--data.batch-rows", 512) == 2
    out, err = capsys.readouterr()
    assert "roofline" in out
    assert err.count("\n") == 1
    assert "wants 16.00 GiB of 12.00 GiB" in err


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "wants the experiment first"),
        (["--topology", "v5e-16"], "wants the experiment first"),
        (["{small}:gar", "--topology", "v9-3"], "expected TYPE-SIZE"),
        (["{small}:gar", "--topology", "v5e-16", "--mesh.fsdp", "3"], "does not fit 16 devices"),
        (["{small}:gar", "--topology", "2xv5e-16", "--mesh.data", "1", "--mesh.fsdp", "32"], "2 slices lie along data"),
    ],
)
def test_what_can_not_be_planned_is_said_before_anything_is_compiled(small, compiler, arguments, expected, capsys):
    assert _plan(*[one.format(small=small) for one in arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not compiler


def test_a_steps_content_follows_the_packing(small):
    experiment = find_experiment(f"{small}:gar")
    content = step_content(experiment)
    assert content.positions == 32 * 4096
    assert content.left_out == 0
    # 75 frames and twice 10.5 phones a second, and BOS: what the real positions are made of.
    assert content.fill * content.positions == pytest.approx(content.audio_seconds * (75 + 2 * 10.5), rel=0.01)
    short = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, row_length=1024))
    assert step_content(short).left_out > 0.5
    nar = step_content(find_experiment(f"{small}:nar"))
    # No phone stands among the frames: as much speech in fewer positions.
    assert nar.audio_seconds > content.audio_seconds


@pytest.mark.parametrize("kind", ["gar", "nar"])
def test_the_kernels_visits_are_those_of_its_bounds(small, kind, monkeypatch):
    monkeypatch.setattr(plan_content, "_ROWS", 4)
    experiment = find_experiment(f"{small}:{kind}")
    length, block = experiment.data.row_length, 512
    packing = PackingPlan(plan_content._lengths(experiment), length, experiment.data.seed)
    visited = 0
    for row in range(4):
        ids_T = np.zeros(length, int)
        lengths_S = packing.lengths_N[packing.row(row)[1]]
        ids_T[: lengths_S.sum()] = np.repeat(np.arange(1, len(lengths_S) + 1), lengths_S)
        seen = ids_T[:, None] == ids_T
        if kind == "gar":
            seen = seen & np.tri(length, dtype=bool)
        blocks = seen.reshape(length // block, block, length // block, block).any((1, 3))
        visited += blocks.sum() * block**2
    assert plan_content.visited_share(experiment) == visited / (4 * length**2)


def test_the_workload_is_the_experiments(small):
    topology = find_topology("2xv5e-16")
    gar, nar = (workload_of(find_experiment(f"{small}:{kind}"), topology) for kind in ("gar", "nar"))
    assert (gar.causal, gar.outputs, nar.causal, nar.outputs) == (True, 1026, False, 7 * 1024)
    assert (gar.data, gar.fsdp, gar.tensor) == (32, 1, 1)


def test_a_compiler_that_dies_is_an_error_of_the_run(small, monkeypatch):
    monkeypatch.setattr(plan_child.sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="the compiler ended with status 1: it said nothing"):
        plan_child.compile_elsewhere(find_experiment(f"{small}:gar"), "v5e-16")


needs_libtpu = pytest.mark.skipif(not libtpu_found(), reason="libtpu, the compiler for TPUs, is not installed")


@pytest.mark.slow
@needs_libtpu
def test_the_real_step_compiles_for_a_slice(small, tmp_path, capsys):
    assert _plan(f"{small}:gar", "--topology", "v5e-16", "--json", tmp_path / "plan.json") == 0
    [point] = json.loads((tmp_path / "plan.json").read_text())["points"]
    compiled = point["compiled"]
    # Parameters and two moments in float32, replicated; the batch beside them.
    assert compiled["state_bytes"] == pytest.approx(12 * point["workload"]["num_parameters"], rel=0.1)
    assert compiled["state_bytes"] < compiled["peak_bytes"] < 2 * GIB
    # The gradients, in float32, are summed over the devices.
    [summed] = [one for one in compiled["collectives"] if one["kind"] == "all-reduce"]
    assert summed["num_bytes"] == pytest.approx(4 * point["workload"]["num_parameters"], rel=0.1)
    assert 0 < point["estimate"]["mfu"] < 1


@pytest.mark.slow
@needs_libtpu
def test_more_layers_take_more_cycles(small):
    def cycles(layers):
        experiment = find_experiment(f"{small}:gar")
        transformer = dataclasses.replace(experiment.model.transformer, num_layers=layers)
        model = dataclasses.replace(experiment.model, transformer=transformer)
        return plan_child.compile_elsewhere(dataclasses.replace(experiment, model=model), "v5e-16").cycles

    three, six, nine = cycles(3), cycles(6), cycles(9)
    assert six > three
    assert nine - six == pytest.approx(six - three, rel=0.1)


@pytest.mark.slow
@needs_libtpu
def test_parameters_are_gathered_where_they_are_sharded(small, tmp_path):
    assert _plan(f"{small}:gar", "--topology", "2xv5e-4", "--mesh.fsdp", 4, "--json", tmp_path / "plan.json") == 0
    [point] = json.loads((tmp_path / "plan.json").read_text())["points"]
    assert point["slices"] == 2
    assert "all-gather" in {one["kind"] for one in point["compiled"]["collectives"]}
    assert point["compiled"]["state_bytes"] < 12 * point["workload"]["num_parameters"]


@pytest.mark.slow
@needs_libtpu
def test_the_real_compiler_says_what_does_not_fit(small, capsys):
    too_much = ("--data.batch-rows", 256, "--model.transformer.remat", "none")
    assert _plan(f"{small}:gar", "--topology", "v5e-1", *too_much) == 2
    err = capsys.readouterr().err
    assert "GiB of 15.75 GiB" in err


def test_a_mesh_that_only_the_child_can_judge_is_an_input_error(small, monkeypatch):
    answer = json.dumps({"input_error": "attention splash: rows of 100 positions"})
    done = plan_child.subprocess.CompletedProcess([], 0, stdout=f"noise\n{answer}\n", stderr="")
    monkeypatch.setattr(plan_child.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match="rows of 100 positions"):
        plan_child.compile_elsewhere(find_experiment(f"{small}:gar"), "v5e-16")
