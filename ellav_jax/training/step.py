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
from ellav_jax.sharding import ShardingRules, constrain, on_mesh
from ellav_jax.training.losses import Sums
from ellav_jax.training.optimizer import OptimizerConfig, averaged, make_optimizer

SumsFunction = Callable[[Any, Mapping[str, jax.Array], jax.Array | None], Sums]
"""(model, batch, uint32 seed of dropout or None) → sums."""
TrainState = dict[str, Any]
"""`params`, `optimizer`, `step` (int32 scalar), and `ema` where a moving average is kept: a pytree of arrays."""


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """What a run executes on its mesh.

    init(key) → state · train(state, batch, seed) → (state, metrics) · evaluate(state, batch) → sums.
    seed: uint32 scalar; with the batch's `dropout_keys` it decides the dropout masks.
    metrics: scalars `loss` (cross-entropy, nats a token), `accuracy` (of codes), `grad_norm`, `tokens`.
    evaluate: with the moving average of the parameters where the state has one.
    abstract: shapes, dtypes and shardings of the state, for a restore. lower: the training step, to be compiled for
    devices that need not be there, given an abstract batch. compilations: how often the training step was compiled.
    """

    init: Callable[[jax.Array], TrainState]
    train: Callable[[TrainState, Mapping[str, jax.Array], jax.Array], tuple[TrainState, dict[str, jax.Array]]]
    evaluate: Callable[[TrainState, Mapping[str, jax.Array]], Sums]
    abstract: TrainState
    lower: Callable[[Mapping[str, jax.ShapeDtypeStruct]], jax.stages.Lowered]
    compilations: Callable[[], int]


def make_steps(
    definition: ModelDefinition,
    sums: SumsFunction,
    config: OptimizerConfig,
    mesh: Mesh,
    rules: ShardingRules,
    *,
    steps: int,
    accumulate: int = 1,
) -> Steps:
    """Builds the jitted steps of a model on a mesh. Raises InputError where the model does not fit the mesh.

    steps: length of the run, for the schedule. accumulate: parts that each batch is worked off in, one after the other;
    loss and gradient are those of the whole batch, since sums and counts are added up and divided once.
    """
    optimizer = make_optimizer(config, steps, definition.axes)

    def init(key: jax.Array) -> TrainState:
        params = definition.init(key)
        state = {"params": params, "optimizer": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}
        # Donated with the parameters, it must have buffers of its own.
        return state | ({"ema": jax.tree.map(jnp.copy, params)} if config.ema_decay else {})

    shapes = jax.eval_shape(init, jax.random.key(0))
    replicated = NamedSharding(mesh, P())
    param_shardings = rules.of_params(definition.shapes, definition.axes, mesh)
    shardings = {
        "params": param_shardings,
        "optimizer": _like_parameters(shapes["optimizer"], shapes["params"], param_shardings, replicated),
        "step": replicated,
    } | ({"ema": param_shardings} if config.ema_decay else {})

    def part_sums(
        params: Params, batch: Mapping[str, jax.Array], seed: jax.Array
    ) -> tuple[tuple[jax.Array, Sums], Params]:
        def objective(params: Params) -> tuple[jax.Array, Sums]:
            total = sums(definition.merge(params), batch, seed)
            return total["objective"], total

        return jax.value_and_grad(objective, has_aux=True)(params)

    def batch_sums(params: Params, batch: Mapping[str, jax.Array], seed: jax.Array) -> tuple[Sums, Params]:
        if accumulate == 1:
            (_, total), grads = part_sums(params, batch, seed)
            return total, grads

        def body(carry: tuple[Sums, Params], part: Mapping[str, jax.Array]) -> tuple[tuple[Sums, Params], None]:
            (_, total), grads = part_sums(params, part, seed)
            return jax.tree.map(jnp.add, carry, (total, grads)), None

        parts = {name: _split_rows(array, accumulate) for name, array in batch.items()}
        (_, total), grads = jax.eval_shape(part_sums, params, {name: part[0] for name, part in parts.items()}, seed)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (total, grads))
        return jax.lax.scan(body, zeros, parts)[0]

    def train(
        state: TrainState, batch: Mapping[str, jax.Array], seed: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        total, grads = batch_sums(state["params"], batch, seed)
        tokens = jnp.maximum(total["tokens"], 1)
        grads = jax.tree.map(lambda leaf: leaf / tokens, grads)
        updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {
            "loss": total["loss"] / tokens,
            "accuracy": total["layer_correct"].sum() / jnp.maximum(total["layer_codes"].sum(), 1),
            "grad_norm": optax.tree.norm(grads),
            "tokens": total["tokens"],
        }
        new = {"params": params, "optimizer": optimizer_state, "step": state["step"] + 1}
        if config.ema_decay:
            new["ema"] = averaged(state["ema"], params, state["step"], config.ema_decay)
        return new, metrics

    def evaluate(state: TrainState, batch: Mapping[str, jax.Array]) -> Sums:
        return sums(definition.merge(state.get("ema", state["params"])), batch, None)

    jitted_init = jax.jit(init, out_shardings=shardings)
    jitted_train = jax.jit(train, donate_argnums=0, out_shardings=(shardings, replicated))
    jitted_evaluate = jax.jit(evaluate, out_shardings=replicated)
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
    )

    def lower(batch: Mapping[str, jax.ShapeDtypeStruct]) -> jax.stages.Lowered:
        with on_mesh(mesh, rules):
            return jitted_train.lower(abstract, batch, jax.ShapeDtypeStruct((), jnp.uint32, sharding=replicated))

    def placed(function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            with on_mesh(mesh, rules):
                return function(*arguments)

        return call

    return Steps(
        init=placed(jitted_init),
        train=placed(jitted_train),
        evaluate=placed(jitted_evaluate),
        abstract=abstract,
        lower=lower,
        compilations=jitted_train._cache_size,
    )


def _like_parameters(optimizer: Any, params: Params, shardings: Params, replicated: NamedSharding) -> Any:
    """Shardings of an optimizer's state: a moment's path ends in its parameter's path, and it lies as the parameter does."""
    flat, _ = jax.tree.flatten_with_path(params)
    by_path = {
        path: (leaf.shape, sharding) for (path, leaf), sharding in zip(flat, jax.tree.leaves(shardings), strict=True)
    }

    def find(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        for begin in range(len(path)):
            shape, sharding = by_path.get(path[begin:], (None, replicated))
            if shape == leaf.shape:
                return sharding
        return replicated

    return jax.tree.map_with_path(find, optimizer)


def _split_rows(array: jax.Array, parts: int) -> jax.Array:
    """[B, …] → [parts, B / parts, …], each part with rows of every device's share."""
    rows = array.shape[0] // parts
    return constrain(
        array.reshape(rows, parts, *array.shape[1:]).swapaxes(0, 1), None, "batch", *[None] * (array.ndim - 1)
    )
