"""Weights on their way to PyTorch and back: nothing changes, and what does not fit is named."""

import jax
import numpy as np
import pytest
import torch

from ellav_jax.errors import InputError
from ellav_jax.export import torch_modules as twin
from ellav_jax.export.convert import from_torch, to_torch, torch_config
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.vocabulary import Vocabulary

PHONES = 5


def _definition(config, kind):
    if kind == "gar":
        return ModelDefinition.of(lambda key: Gar(GarConfig(config), Vocabulary(PHONES), key))
    return ModelDefinition.of(lambda key: Nar(NarConfig(config, tied_heads=kind == "nar"), PHONES, key))


def _random(definition):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), definition.shapes)


def _twin(config, kind):
    config = twin.TransformerConfig(**torch_config(config))
    return twin.Gar(config, PHONES) if kind == "gar" else twin.Nar(config, PHONES, tied_heads=kind == "nar")


@pytest.mark.parametrize("preset", ["paper", "llama"])
@pytest.mark.parametrize("kind", ["gar", "nar", "nar with heads"])
def test_there_and_back_changes_no_bit(tiny, kind, preset):
    definition = _definition(tiny(preset), kind)
    params = _random(definition)
    module = _twin(tiny(preset), kind)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(params).items()})  # names, shapes
    back = from_torch({name: tensor.numpy() for name, tensor in module.state_dict().items()}, definition.shapes)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    assert all(leaf.flags.c_contiguous and leaf.dtype == np.float32 for leaf in jax.tree.leaves(back))


def test_matrices_are_turned_and_projections_joined(tiny):
    params = _random(_definition(tiny("paper"), "gar"))
    state, blocks = to_torch(params), params["transformer"]["blocks"]
    np.testing.assert_array_equal(state["transformer.blocks.1.up.weight"], blocks["up"]["kernel"][1].T)
    np.testing.assert_array_equal(state["transformer.blocks.0.qkv.weight"][32:64], blocks["key"]["kernel"][0].T)
    np.testing.assert_array_equal(state["transformer.blocks.0.qkv.bias"][64:], blocks["value"]["bias"][0])
    np.testing.assert_array_equal(state["transformer.blocks.1.ff_norm.weight"], blocks["ff_norm"]["scale"][1])


def test_all_that_does_not_fit_is_named_at_once(tiny):
    definition = _definition(tiny("llama"), "gar")
    state = to_torch(_random(definition))
    del state["transformer.norm.weight"]
    state["head.weight"] = state["head.weight"][:, :-1]
    state["transformer.blocks.1.qkv.weight"] = state["transformer.blocks.1.qkv.weight"][:-3]
    state["lm_head.weight"] = np.zeros(3, np.float32)
    with pytest.raises(InputError) as error:
        from_torch(state, definition.shapes)
    assert str(error.value) == (
        "weights do not fit the model: head.weight is [1026, 31], expected [1026, 32]; "
        "transformer.blocks.1.qkv.weight is [93, 32], expected [96, 32]; "
        "transformer.norm.weight missing, expected [32]; lm_head.weight belongs to no parameter"
    )
