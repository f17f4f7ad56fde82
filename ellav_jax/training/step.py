"""The jitted training and evaluation steps, and the state they carry."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ellav_jax.models.definition import ModelDefinition, Params
from ellav_jax.sharding import ShardingRules
from ellav_jax.training.losses import Sums

SumsFunction = Callable[[Any, Mapping[str, jax.Array], jax.Array | None], Sums]
TrainState = dict[str, Any]
"""`params`, `optimizer` and `step` (int32 scalar): a pytree of arrays, as checkpoints hold it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """What a run executes on its mesh.

    init(key) → state · train(state, batch, key) → (state, metrics) · evaluate(params, batch) → sums.
    metrics: scalars `loss` (nats a token), `accuracy` (of codes), `grad_norm`, `tokens`.
    abstract: shapes, dtypes and shardings of the state, for a restore.
    """

    init: Callable[[jax.Array], TrainState]
    train: Callable[[TrainState, Mapping[str, jax.Array], jax.Array], tuple[TrainState, dict[str, jax.Array]]]
    evaluate: Callable[[Params, Mapping[str, jax.Array]], Sums]
    abstract: TrainState


def make_steps(
    definition: ModelDefinition,
    sums: SumsFunction,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rules: ShardingRules,
) -> Steps:
    """Builds the jitted steps of a model on a mesh. Raises InputError where the model does not fit the mesh."""

    def init(key: jax.Array) -> TrainState:
        params = definition.init(key)
        return {"params": params, "optimizer": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}

    shapes = jax.eval_shape(init, jax.random.key(0))
    replicated = NamedSharding(mesh, P())
    param_shardings = rules.of_params(definition.shapes, definition.axes, mesh)
    # The optimizer's moments have the parameters' tree inside theirs, and lie as the parameters do.
    shardings = {
        "params": param_shardings,
        "optimizer": optax.tree.map_params(
            optimizer,
            lambda _, sharding: sharding,
            shapes["optimizer"],
            param_shardings,
            transform_non_params=lambda _: replicated,
        ),
        "step": replicated,
    }

    def train(
        state: TrainState, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        dropout_key = jax.random.fold_in(key, state["step"])

        def loss(params: Params) -> tuple[jax.Array, Sums]:
            total = sums(definition.merge(params), batch, dropout_key)
            return total["loss"] / jnp.maximum(total["tokens"], 1), total

        (value, total), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
        updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {
            "loss": value,
            "accuracy": total["layer_correct"].sum() / jnp.maximum(total["layer_codes"].sum(), 1),
            "grad_norm": optax.tree.norm(grads),
            "tokens": total["tokens"],
        }
        return {"params": params, "optimizer": optimizer_state, "step": state["step"] + 1}, metrics

    return Steps(
        init=jax.jit(init, out_shardings=shardings),
        train=jax.jit(train, donate_argnums=0, out_shardings=(shardings, replicated)),
        evaluate=jax.jit(lambda params, batch: sums(definition.merge(params), batch, None), out_shardings=replicated),
        abstract=jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
        ),
    )
