"""Decoding on the device: the GAR token by token in one `lax.while_loop`, the NAR layer by layer in one scan.

Arrays: B sentences, S positions of a prefix, N phones to speak, F frames at most.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ellav_jax.models.definition import ModelDefinition, Params
from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import NUM_LAYERS, Nar, NarInputs
from ellav_jax.sharding import rows_apart
from ellav_jax.synthesis.sampling import MAX_WINDOW, SamplingSettings, sample
from ellav_jax.vocabulary import EOP, EOS, NUM_CODES, NUM_OUTPUTS


@functools.partial(jax.tree_util.register_dataclass)
@dataclasses.dataclass(frozen=True)
class GarRequest:
    """Sentences to decode.

    prefix_BxS: int32 tokens up to and with the first phone to speak, and the prompt's frames that fall into it (local
    advance); padded at the right. prefix_length_B: their true lengths.
    phones_BxN: int32 tokens of the phones to speak, the first included; padded. num_phones_B.
    floor_BxN, cap_BxN: least and most frames of each phone in the sequence, 1 ≤ floor ≤ cap.
    started_B: frames of the first phone that the prefix already holds.
    keys_B: PRNG keys. sampling: how tokens are chosen.
    """

    prefix_BxS: jax.Array
    prefix_length_B: jax.Array
    phones_BxN: jax.Array
    num_phones_B: jax.Array
    floor_BxN: jax.Array
    cap_BxN: jax.Array
    started_B: jax.Array
    keys_B: jax.Array
    sampling: SamplingSettings


@functools.partial(jax.tree_util.register_dataclass)
@dataclasses.dataclass(frozen=True)
class GarResult:
    """codes_BxF: int32 layer-1 codes; num_frames_B of them count. durations_BxN: frames of each phone in the sequence,
    those that the prefix held included. finished_B: false where max_frames came before the end. calls_B: model calls that
    the row's device made for its rows."""

    codes_BxF: jax.Array
    num_frames_B: jax.Array
    durations_BxN: jax.Array
    finished_B: jax.Array
    calls_B: jax.Array


@functools.partial(jax.jit, static_argnames=("definition", "eop_input", "max_frames"))
def decode_gar(
    definition: ModelDefinition, params: Params, request: GarRequest, *, eop_input: bool, max_frames: int
) -> GarResult:
    """Decodes until every sentence has ended or has max_frames.

    After a phone only codes are allowed until its floor is reached; then EOP, or EOS for the last phone, too; at its cap
    nothing but that. On EOP the next phone is fed, not predicted. VALL-E's AR is the case of one "phone" that is not fed.
    `eop_input`: the paper's layout, where EOP takes a position (and a model call) of its own. On a mesh each device is done
    when its own rows are.
    """
    decode = functools.partial(_decode, definition, eop_input=eop_input, max_frames=max_frames)
    return rows_apart(decode, params, request)


def _decode(
    definition: ModelDefinition, params: Params, request: GarRequest, *, eop_input: bool, max_frames: int
) -> GarResult:
    model: Gar = definition.merge(params)
    layers = model.transformer.layers()
    batch, prefix_length = request.prefix_BxS.shape
    num_phones = request.phones_BxN.shape[1]
    slots = prefix_length + max_frames + (2 if eop_input else 1) * num_phones
    rows = jnp.arange(batch)
    logits_BxV, cache = model.prefill(request.prefix_BxS, request.prefix_length_B, slots)
    is_code_V = jnp.arange(NUM_OUTPUTS) < NUM_CODES

    def unfinished(state: dict) -> jax.Array:
        return ~jnp.all(state["done_B"])

    def body(state: dict) -> dict:
        pointer_B, done_B, waiting_B = state["pointer_B"], state["done_B"], state["waiting_B"]
        in_phone_B = state["durations_BxN"][rows, pointer_B]
        last_B = pointer_B == request.num_phones_B - 1
        closing_B = jnp.where(last_B & (not eop_input), EOS, EOP)
        may_close_B = in_phone_B >= request.floor_BxN[rows, pointer_B]
        must_close_B = in_phone_B >= request.cap_BxN[rows, pointer_B]
        allowed_BxV = (is_code_V & ~must_close_B[:, None]) | (
            (jnp.arange(NUM_OUTPUTS) == closing_B[:, None]) & may_close_B[:, None]
        )
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(request.keys_B, state["calls"])
        recent_BxW = state["num_frames_B"][:, None] - 1 - jnp.arange(MAX_WINDOW)
        recent_BxW = jnp.where(recent_BxW < 0, -1, state["codes_BxF"][rows[:, None], recent_BxW])
        logits_BxV = jnp.where(allowed_BxV, state["logits_BxV"], -jnp.inf)
        chosen_B = sample(logits_BxV, keys_B, recent_BxW, request.sampling)
        speaks_B = ~waiting_B & ~done_B & (chosen_B < NUM_CODES)
        closes_B = ~waiting_B & ~done_B & (chosen_B >= NUM_CODES)
        frame_B = jnp.where(speaks_B, state["num_frames_B"], max_frames)  # out of range: dropped by the scatter
        codes_BxF = state["codes_BxF"].at[rows, frame_B].set(chosen_B, mode="drop")
        num_frames_B = state["num_frames_B"] + speaks_B
        finished_B = state["finished_B"] | (closes_B & last_B)
        # In the paper's layout a closed phone waits one call, in which EOP is fed, for the next phone.
        next_phone_B = waiting_B if eop_input else closes_B & ~last_B
        next_pointer_B = pointer_B + next_phone_B
        token_B = jnp.where(next_phone_B, request.phones_BxN[rows, next_pointer_B], chosen_B)
        done_B = finished_B | (num_frames_B >= max_frames)
        logits_BxV, cache = model.step(layers, token_B, state["position_B"], state["cache"])
        return {
            "logits_BxV": logits_BxV,
            "cache": cache,
            "position_B": state["position_B"] + ~done_B,
            "pointer_B": next_pointer_B,
            "waiting_B": closes_B & ~last_B if eop_input else waiting_B,
            "codes_BxF": codes_BxF,
            "num_frames_B": num_frames_B,
            "durations_BxN": state["durations_BxN"].at[rows, pointer_B].add(speaks_B),
            "finished_B": finished_B,
            "done_B": done_B,
            "calls": state["calls"] + 1,
        }

    state = jax.lax.while_loop(
        unfinished,
        body,
        {
            "logits_BxV": logits_BxV,
            "cache": cache,
            "position_B": request.prefix_length_B,
            "pointer_B": jnp.zeros(batch, jnp.int32),
            "waiting_B": jnp.zeros(batch, bool),
            "codes_BxF": jnp.zeros((batch, max_frames), jnp.int32),
            "num_frames_B": jnp.zeros(batch, jnp.int32),
            "durations_BxN": jnp.zeros((batch, num_phones), jnp.int32).at[:, 0].set(request.started_B),
            "finished_B": jnp.zeros(batch, bool),
            "done_B": jnp.zeros(batch, bool),
            "calls": jnp.zeros((), jnp.int32),
        },
    )
    calls_B = jnp.broadcast_to(state["calls"], batch)
    return GarResult(state["codes_BxF"], state["num_frames_B"], state["durations_BxN"], state["finished_B"], calls_B)


@functools.partial(jax.jit, static_argnames="definition")
def decode_nar(
    definition: ModelDefinition, params: Params, inputs: NarInputs, temperature: jax.Array | float = 0.0
) -> jax.Array:
    """Fills layers 2 … 8, one pass each.

    inputs: `codes` hold all 8 layers in the prompt (`known` 8) and layer 1 behind it; `stage` is ignored. temperature:
    as `SamplingConfig.nar_temperature`. → int32 codes [B, R, 8], those given included.
    """
    model: Nar = definition.merge(params)
    prompt_BxR = inputs.known == NUM_LAYERS

    def fill(codes_BxRx8: jax.Array, stage: jax.Array) -> tuple[jax.Array, None]:
        x_BxRxD = model(
            dataclasses.replace(
                inputs,
                codes=codes_BxRx8,
                known=jnp.where(prompt_BxR, NUM_LAYERS, stage - 1),
                stage=jnp.full_like(inputs.stage, stage),
            )
        )
        predicted_BxR = _choose(model.logits(x_BxRxD, stage), model.code_embedding[...][stage - 1], temperature)
        layer_BxR = jnp.where(prompt_BxR, jnp.take(codes_BxRx8, stage - 1, axis=-1), predicted_BxR)
        return codes_BxRx8.at[..., stage - 1].set(layer_BxR), None

    return jax.lax.scan(fill, inputs.codes, jnp.arange(2, NUM_LAYERS + 1))[0]


def _choose(logits_BxRxC: jax.Array, codes_CxD: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """The likeliest code at temperature 0; above, the one whose embedding is nearest to the mean under the probabilities."""

    def likeliest(_: None) -> jax.Array:
        return logits_BxRxC.argmax(-1)

    def nearest_to_mean(_: None) -> jax.Array:
        embedding_CxD = codes_CxD.astype(jnp.float32)
        mean_BxRxD = jax.nn.softmax(logits_BxRxC / jnp.maximum(temperature, 1e-6)) @ embedding_CxD
        return (2 * mean_BxRxD @ embedding_CxD.T - jnp.square(embedding_CxD).sum(-1)).argmax(-1)

    return jax.lax.cond(jnp.asarray(temperature) > 0, nearest_to_mean, likeliest, None)
