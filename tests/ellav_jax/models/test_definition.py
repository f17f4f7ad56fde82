"""A model without its parameters."""

import jax
import numpy as np
import pytest

from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.vocabulary import Vocabulary


@pytest.mark.parametrize("preset", ["paper", "llama"])
def test_each_parameter_has_one_logical_axis_a_dimension_and_stacked_ones_begin_with_layers(tiny, preset):
    definition = ModelDefinition.of(lambda key: Gar(GarConfig(tiny(preset)), Vocabulary(5), key))
    is_axes = lambda x: isinstance(x, tuple)  # noqa: E731
    shapes = dict(jax.tree.leaves_with_path(definition.shapes))
    axes = dict(jax.tree.leaves_with_path(definition.axes, is_leaf=is_axes))
    assert shapes.keys() == axes.keys()
    for path, shape in shapes.items():
        assert len(axes[path]) == len(shape.shape)
        stacked = "blocks" in jax.tree_util.keystr(path)
        assert (axes[path][0] == "layers") is stacked
        assert not stacked or shape.shape[0] == 2
    blocks = definition.axes["transformer"]["blocks"]
    assert blocks["up"]["kernel"] == ("layers", "embed", "mlp")
    assert blocks["output"]["kernel"] == ("layers", "heads", "embed")


def test_defining_allocates_nothing_and_init_makes_what_was_defined(tiny_gar):
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tiny_gar.definition.shapes))
    found = jax.tree.map(lambda a: (a.shape, a.dtype), tiny_gar.params)
    assert found == jax.tree.map(lambda a: (a.shape, a.dtype), tiny_gar.definition.shapes)


def test_layers_of_a_stack_are_drawn_apart(tiny_gar):
    kernel = np.asarray(tiny_gar.params["transformer"]["blocks"]["up"]["kernel"])
    assert np.any(kernel[0] != kernel[1])
