"""Presets, options and sweeps of the benchmarks."""

import pytest

from configs.experiment import find_experiment, list_experiments
from configs.trained import define_model
from ellav_jax.errors import InputError
from ellav_jax.sharding import MeshConfig
from launch.benchmarks.points import PRESETS, ModelOptions, StepOptions, points


def test_without_options_it_is_the_small_gar():
    [one] = points(StepOptions())
    assert (one.name, one.label, one.experiment) == ("prompts_small.gar", {}, find_experiment("prompts_small.gar"))


@pytest.mark.parametrize(
    ("preset", "millions"), [("small", (3, 5)), ("paper", (150, 156)), ("1b", (990, 1030))], ids=list(PRESETS)
)
def test_presets_have_the_sizes_that_they_are_named_for(preset, millions):
    found = list(points(StepOptions(preset=preset, kind="gar,nar")))
    assert [one.name for one in found] == [f"{PRESETS[preset]}.gar", f"{PRESETS[preset]}.nar"]
    # Shapes alone: nothing is allocated.
    assert millions[0] < define_model(found[0].experiment, 40).num_parameters / 1e6 < millions[1]


def test_every_combination_of_several_values_is_a_point_and_each_value_arrives():
    options = StepOptions(
        preset="paper,1b",
        layout="paper",
        attention="xla,segments",
        dtype="float32",
        batch="2",
        row_length="512",
        remat="full",
        mesh="-1x2x1",
    )
    found = list(points(options))
    assert [one.label for one in found] == [
        {"preset": preset, "attention": attention} for preset in ("paper", "1b") for attention in ("xla", "segments")
    ]
    for one in found:
        transformer, data = one.experiment.model.transformer, one.experiment.data
        assert transformer.attention == one.label["attention"]
        assert (transformer.dtype, transformer.remat) == ("float32", "full")
        assert (data.batch_rows, data.row_length) == (2, 512)
        assert one.experiment.layout.order == "paper"
        assert one.experiment.mesh == MeshConfig(-1, 2, 1)  # without the preset's sizes for some hardware


def test_valles_layout_leaves_out_the_local_advance():
    [one] = points(ModelOptions(preset="paper", layout="valle"))
    assert (one.experiment.layout.order, one.experiment.layout.local_advance) == ("valle", 0)


def test_an_experiment_takes_the_place_of_the_preset():
    assert [one.name for one in points(ModelOptions(experiment="librispeech_pod.gar"))] == ["librispeech_pod.gar"]
    assert "librispeech_pod.gar" in list_experiments()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "--preset huge: expected small, paper, 1b"),
        ({"kind": "nothing"}, "no function 'nothing'"),
        ({"layout": "loose"}, "--layout loose: expected compact, paper, valle"),
        ({"attention": "cudn"}, "--attention cudn: expected auto, xla"),
        ({"dtype": "float16"}, "--dtype float16: expected float32, bfloat16"),
        ({"remat": "some"}, "--remat some: expected none, dots"),
        ({"batch": "2,0"}, "--batch 0: expected whole numbers"),
        ({"row_length": "-1"}, "--row-length -1: expected whole numbers"),
        ({"mesh": "2x2"}, "--mesh 2x2: expected DATAxFSDPxTENSOR"),
        ({"mesh": "0x1x1"}, "--mesh 0x1x1: expected DATAxFSDPxTENSOR"),
    ],
)
def test_a_value_that_is_none_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        list(points(StepOptions(**options)))


def test_an_experiment_that_is_none_is_refused(experiments):
    with pytest.raises(InputError, match="it returns LayoutConfig, expected an Experiment"):
        list(points(ModelOptions(experiment=f"{experiments}:nothing")))
