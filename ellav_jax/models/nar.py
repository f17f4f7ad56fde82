"""NAR: the bidirectional model that fills RVQ layers 2 … 8, one layer a pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ellav_jax.models.codebook_init import codebook_embeddings
from ellav_jax.models.transformer import Transformer, TransformerConfig, parameter
from ellav_jax.vocabulary import NUM_CODES

NUM_LAYERS = 8
"""RVQ layers of the codec (6 kbit/s)."""
NUM_STAGES = NUM_LAYERS - 1
"""Stages 2 … 8; stage s predicts layer s from the layers below it."""


@dataclasses.dataclass(frozen=True)
class NarConfig:
    """Choices of the NAR, all unknown in the paper.

    aligned_phones: a frame's input carries the embedding of its aligned phone (chosen because it is at hand).
    tied_heads: the head of layer s is the embedding of layer s (chosen as VALL-E's authors tie theirs).
    codebook_init: embeddings of codes (and heads) begin from the codec's codebooks, not at random.
    max_prompt_seconds: the training prompt's upper bound; its length is uniform up to it, cut at a phone boundary.
    """

    transformer: TransformerConfig = TransformerConfig()
    aligned_phones: bool = True
    tied_heads: bool = True
    codebook_init: bool = False
    max_prompt_seconds: float = 3.0


@dataclasses.dataclass(frozen=True)
class NarInputs:
    """Rows of n phones, then T frames, for each segment; all [B, R] but `codes`.

    phones: int32; the phone at a phone's position, the aligned phone at a frame's. is_frame: bool.
    codes: int32 [B, R, 8]. known: int32, how many layers of a frame are given (8 in the prompt, stage − 1 behind it).
    stage: int32 in 2 … 8, the same over a segment. segment_ids, positions: int32.
    """

    phones: jax.Array
    is_frame: jax.Array
    codes: jax.Array
    known: jax.Array
    stage: jax.Array
    segment_ids: jax.Array
    positions: jax.Array


jax.tree_util.register_dataclass(NarInputs)


def nar_segment(
    phones_N: np.ndarray, durations_N: np.ndarray, codes_Tx8: np.ndarray, prompt_frames: int, stage: int
) -> dict[str, np.ndarray]:
    """One segment, n phones and then T frames: the arrays of `NarInputs` [n + T] but segment_ids and positions.

    durations_N: frames of each phone, summing to T. Training and synthesis lay their rows out by this one function.
    """
    n = len(phones_N)
    at_L = np.arange(n + len(codes_Tx8))
    codes_Lx8 = np.zeros((len(at_L), NUM_LAYERS), np.int32)
    codes_Lx8[n:] = codes_Tx8
    return {
        "phones": np.concatenate([phones_N, np.repeat(phones_N, durations_N)]).astype(np.int32),
        "is_frame": at_L >= n,
        "codes": codes_Lx8,
        "known": np.where(at_L < n, 0, np.where(at_L < n + prompt_frames, NUM_LAYERS, stage - 1)).astype(np.int32),
        "stage": np.full(len(at_L), stage, np.int32),
    }


class Nar(nnx.Module):
    """Bidirectional transformer; a frame's input sums the embeddings of known layers, phone and stage."""

    def __init__(self, config: NarConfig, num_phones: int, key: jax.Array, codebooks_QxCxE: jax.Array | None = None):
        """codebooks_QxCxE: the codec's, for `codebook_init` in a model to be trained; not needed to load one."""
        self.config = config
        width = config.transformer.width
        scale = width**-0.5
        phone_key, code_key, stage_key, body_key, head_key = jax.random.split(key, 5)
        self.phone_embedding = parameter(phone_key, (num_phones, width), ("vocab", "embed"), scale)
        self.code_embedding = parameter(code_key, (NUM_LAYERS, NUM_CODES, width), (None, "vocab", "embed"), scale)
        self.stage_embedding = parameter(stage_key, (NUM_STAGES, width), (None, "embed"), scale)
        self.transformer = Transformer(config.transformer, causal=False, key=body_key)
        if not config.tied_heads:
            self.heads = parameter(head_key, (NUM_STAGES, NUM_CODES, width), (None, "vocab", "embed"), scale)
        if config.codebook_init and codebooks_QxCxE is not None:
            codes_QxCxD = codebook_embeddings(codebooks_QxCxE[:NUM_LAYERS], width, jax.random.fold_in(key, 1))
            self.code_embedding[...] = codes_QxCxD
            if not config.tied_heads:
                self.heads[...] = codes_QxCxD[1:]

    def __call__(self, inputs: NarInputs, dropout_keys_BxT: jax.Array | None = None) -> jax.Array:
        """→ features [B, R, D] in the compute dtype; `logits` turns those of frames into scores of codes."""
        width = self.config.transformer.width
        uses_phone_BxR = True if self.config.aligned_phones else ~inputs.is_frame
        x_BxRxD = jnp.where(jnp.expand_dims(uses_phone_BxR, -1), self.phone_embedding[...][inputs.phones], 0)
        x_BxRxD = x_BxRxD + self.stage_embedding[...][inputs.stage - 2]
        for layer in range(NUM_LAYERS):
            given_BxR = inputs.is_frame & (layer < inputs.known)
            codes_BxRxD = self.code_embedding[layer][inputs.codes[..., layer]]
            x_BxRxD = x_BxRxD + jnp.where(given_BxR[..., None], codes_BxRxD, 0)
        return self.transformer(x_BxRxD * width**0.5, inputs.segment_ids, inputs.positions, dropout_keys_BxT)

    def head(self, stage: jax.Array | int) -> jax.Array:
        """Head of a stage, [1024, D]."""
        if self.config.tied_heads:
            return self.code_embedding[...][stage - 1]
        return self.heads[...][stage - 2]

    def logits(self, x: jax.Array, stage: jax.Array | int) -> jax.Array:
        """Features [..., D] → float32 logits [..., 1024] of one stage."""
        return (x @ self.head(stage).astype(x.dtype).T).astype(jnp.float32)
