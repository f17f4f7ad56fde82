"""GAR: the generalised autoregressive model over hybrid sequences (and, on the "valle" layout, VALL-E's AR)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from ellav_jax.models.codebook_init import codebook_embeddings
from ellav_jax.models.transformer import KVCache, Linear, Transformer, TransformerConfig, parameter
from ellav_jax.vocabulary import NUM_CODES, NUM_OUTPUTS, Vocabulary


@dataclasses.dataclass(frozen=True)
class GarConfig:
    """A GAR is its transformer; the vocabulary comes with the data's phone inventory.

    codebook_init: embeddings and head outputs of codes begin from the codec's first codebook, not at random.
    """

    transformer: TransformerConfig = TransformerConfig()
    codebook_init: bool = False


class Gar(nnx.Module):
    """Causal transformer over tokens with a head of 1,026 outputs: codes, EOP, EOS.

    Phones ahead of BOS and among the codes share one embedding (unknown in the paper; chosen because they are the same).
    """

    def __init__(
        self, config: GarConfig, vocabulary: Vocabulary, key: jax.Array, codebooks_QxCxE: jax.Array | None = None
    ):
        """codebooks_QxCxE: the codec's, for `codebook_init` in a model to be trained; not needed to load one."""
        width = config.transformer.width
        embed_key, body_key, head_key = jax.random.split(key, 3)
        self.embedding = parameter(embed_key, (vocabulary.size, width), ("vocab", "embed"), width**-0.5)
        self.transformer = Transformer(config.transformer, causal=True, key=body_key)
        self.head = Linear((width, NUM_OUTPUTS), ("embed", "vocab"), bias=False, scale=width**-0.5, key=head_key)
        if config.codebook_init and codebooks_QxCxE is not None:
            codes_CxD = codebook_embeddings(codebooks_QxCxE[:1], width, jax.random.fold_in(key, 1))[0]
            self.embedding[...] = self.embedding[...].at[:NUM_CODES].set(codes_CxD)
            self.head.kernel[...] = self.head.kernel[...].at[:, :NUM_CODES].set(codes_CxD.T)

    def __call__(
        self,
        tokens_BxT: jax.Array,
        segment_ids_BxT: jax.Array,
        positions_BxT: jax.Array,
        dropout_keys_BxT: jax.Array | None = None,
    ) -> jax.Array:
        """int32 tokens, segment ids, positions (from 0 in each segment), [B, T] → float32 logits [B, T, 1026]."""
        x_BxTxD = self.transformer(self.embed(tokens_BxT), segment_ids_BxT, positions_BxT, dropout_keys_BxT)
        return self.head(x_BxTxD).astype(jnp.float32)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Token ids [...] → embeddings [..., D], scaled to unit variance."""
        table = self.embedding[...]
        return table[tokens] * table.shape[1] ** 0.5

    def prefill(self, tokens_BxT: jax.Array, lengths_B: jax.Array, slots: int) -> tuple[jax.Array, KVCache]:
        """Prefixes of lengths_B tokens, padded at the right → logits behind each prefix [B, 1026] and the cache."""
        positions_BxT = jnp.broadcast_to(jnp.arange(tokens_BxT.shape[1]), tokens_BxT.shape)
        x_BxTxD, cache = self.transformer.prefill(self.embed(tokens_BxT), positions_BxT, slots)
        last_BxD = x_BxTxD[jnp.arange(len(lengths_B)), lengths_B - 1]
        return self.head(last_BxD).astype(jnp.float32), cache

    def step(
        self, layers: list, tokens_B: jax.Array, positions_B: jax.Array, cache: KVCache
    ) -> tuple[jax.Array, KVCache]:
        """One token a row → logits behind it [B, 1026] and the cache. `layers`: `transformer.layers()`."""
        x_BxD, cache = self.transformer.step(layers, self.embed(tokens_B), positions_B, cache)
        return self.head(x_BxD).astype(jnp.float32), cache
