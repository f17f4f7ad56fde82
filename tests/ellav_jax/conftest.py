"""What tests of models share: a transformer of two small layers, and models over it with their parameters made once."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.vocabulary import EOP, EOS, Vocabulary

PRESETS = {"paper": TransformerConfig.paper, "llama": TransformerConfig.llama}


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For programs that take longer to compile than to run: XLA leaves most optimisations out, in half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TransformerConfig]:
    """`tiny("paper", dropout=0.1)`: two float32 layers of width 32 with two heads."""

    def make(preset: str = "llama", **changes: Any) -> TransformerConfig:
        sizes = {"num_layers": 2, "num_heads": 2, "width": 32, "ff_width": 48, "dropout": 0.0}
        return PRESETS[preset](**sizes | {"dtype": "float32", "remat": "none"} | changes)

    return make


@pytest.fixture(scope="session")
def tiny_gar(tiny: Callable[..., TransformerConfig]) -> SimpleNamespace:
    """A GAR over 5 phones: `definition`, `params`, `vocabulary`, `model`.

    The columns of EOP and EOS are larger than a fresh model's, so that phones of all lengths come out of it.
    """
    vocabulary = Vocabulary(5)
    definition = ModelDefinition.of(lambda key: Gar(GarConfig(tiny("llama")), vocabulary, key))
    params = jax.jit(definition.init)(jax.random.key(1))
    params["head"]["kernel"] = params["head"]["kernel"].at[:, jnp.array([EOP, EOS])].multiply(6.0)
    return SimpleNamespace(definition=definition, params=params, vocabulary=vocabulary, model=definition.merge(params))


@pytest.fixture(scope="session")
def tiny_nar(tiny: Callable[..., TransformerConfig]) -> SimpleNamespace:
    """A NAR over 5 phones: `definition`, `params`, `model`."""
    definition = ModelDefinition.of(lambda key: Nar(NarConfig(tiny("llama")), 5, key))
    params = jax.jit(definition.init)(jax.random.key(2))
    return SimpleNamespace(definition=definition, params=params, model=definition.merge(params))
