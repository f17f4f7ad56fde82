"""ELLA-V's GAR and NAR in plain PyTorch. This file needs torch alone and can be copied anywhere.

It is the first part of the `modeling_ellav.py` that `ellav export` writes, and the opponent in `ellav bench`. Weights may be
float32, bfloat16 or float16, and products are computed in their dtype; positions are always float32, and so are logits.

Arrays: B rows, T positions, D width, H heads, K width of a head, N positions of all rows one behind the other. Token ids of
the GAR: 0 … 1023 codes of RVQ layer 1, 1024 EOP, 1025 EOS, 1026 BOS, 1027 padding, 1028 + p phone p.
"""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_CODES = 1024
"""Codes of one EnCodec codebook."""
NUM_OUTPUTS = NUM_CODES + 2
"""Outputs of the GAR: codes, EOP, EOS."""
FIRST_PHONE = NUM_CODES + 4
"""Token id of phone 0; a GAR over P phones embeds FIRST_PHONE + P ids."""
NUM_LAYERS = 8
"""RVQ layers of the codec."""
NUM_STAGES = NUM_LAYERS - 1
"""Stages 2 … 8 of the NAR; stage s predicts layer s from those below it."""
EOP, EOS, BOS, PAD = range(NUM_CODES, FIRST_PHONE)
"""Token ids: end of phone, end of sequence, begin of speech, padding."""
MORE_SLOTS = 256
"""Positions that a full cache grows by."""


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Shape and choices of a transformer. Matrix products have biases where the norm is a LayerNorm.

    dropout: on the outputs of attention and feed-forward.
    """

    num_layers: int = 12
    num_heads: int = 16
    width: int = 1024
    ff_width: int = 4096
    dropout: float = 0.1
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    feed_forward: Literal["relu", "swiglu"] = "relu"
    position: Literal["sinusoidal", "rotary"] = "sinusoidal"


class Segments:
    """Which positions see each other: those of one utterance, whatever else stands in its row or pads it."""

    def __init__(self, mask: Tensor | None = None, runs: list[int] | None = None):
        """mask: bool, broadcast to [B, H, T, T], True where a query sees a key. runs: lengths that add up to B · T."""
        self.mask, self.runs = mask, runs

    @classmethod
    def packed(cls, segment_ids: Tensor) -> "Segments":
        """Rows of several utterances, ids [B, T] in runs: each run has an attention call of its own and no mask."""
        ids = segment_ids.clone()
        ids += (int(ids.max()) + 1) * torch.arange(len(ids), device=ids.device)[:, None]  # runs end with their row
        return cls(runs=torch.unique_consecutive(ids, return_counts=True)[1].tolist())

    @classmethod
    def masked(cls, segment_ids: Tensor, *, causal: bool) -> "Segments":
        """The same rows with one dense mask: T² work and memory a row."""
        mask = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        return cls(mask=mask.tril() if causal else mask)

    @classmethod
    def padded(cls, lengths: Tensor, length: int, *, causal: bool) -> "Segments":
        """One utterance a row, padded at the right to `length`. A causal model needs no mask: nothing looks that far."""
        if causal or int(lengths.min()) == length:
            return cls()
        return cls(mask=(torch.arange(length, device=lengths.device) < lengths[:, None])[:, None, None])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
        """Queries, keys, values [B, T, H, K] → what attention mixed, [B, T, H, K]."""
        if self.runs is None:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            causal = causal and self.mask is None  # a mask says it itself
            return F.scaled_dot_product_attention(q, k, v, self.mask, is_causal=causal).transpose(1, 2)
        mixed = [
            F.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in run), is_causal=causal)[0].transpose(0, 1)
            for run in zip(*(x.flatten(0, 1).split(self.runs) for x in (q, k, v)), strict=True)
        ]
        return torch.cat(mixed).view(q.shape)


class Cache:
    """Keys and values of the positions so far, for each layer [B, H, slots, K], and how many each row has.

    It grows when it is full.
    """

    def __init__(self, config: TransformerConfig, rows: int, slots: int, like: Tensor):
        shape = (rows, config.num_heads, slots, config.width // config.num_heads)
        self.keys, self.values = ([like.new_zeros(shape) for _ in range(config.num_layers)] for _ in range(2))
        self.lengths = [0] * rows

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Writes one position a row, [B, 1, H, K], behind those that the row has."""
        if max(self.lengths) == self.keys[layer].shape[2]:
            room = (0, 0, 0, MORE_SLOTS)
            self.keys[layer], self.values[layer] = F.pad(self.keys[layer], room), F.pad(self.values[layer], room)
        rows = torch.arange(len(self.lengths), device=k.device)
        at = torch.tensor(self.lengths, device=k.device)
        self.keys[layer][rows, :, at] = k[:, 0]
        self.values[layer][rows, :, at] = v[:, 0]

    def attend(self, layer: int, q: Tensor) -> Tensor:
        """One query a row, [B, 1, H, K], over all that its row has, the position just written included."""
        most = max(self.lengths) + 1
        keys, values = self.keys[layer][:, :, :most], self.values[layer][:, :, :most]
        mask = None
        if min(self.lengths) + 1 < most:
            at = torch.tensor(self.lengths, device=q.device)
            mask = (torch.arange(most, device=q.device) <= at[:, None])[:, None, None]
        return F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, mask).transpose(1, 2)

    def keep(self, rows: list[int]) -> None:
        """Drops all rows but these."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.lengths = [self.lengths[row] for row in rows]


def _frequencies(width: int, device: torch.device) -> Tensor:
    # In float64 until the end: in float32 the angles of far positions would be off by 1e-4.
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    return (1e4**-exponents).float().to(device)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Positions [B, T] → their embedding [B, T, width]; sines in the first half, cosines in the second."""
    angles = positions[..., None] * _frequencies(width, positions.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def turns(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary position embedding, each [B, T, 1, K]."""
    angles = positions[..., None, None] * _frequencies(head_width, positions.device)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies `turns` to [B, T, H, K]; the halves of a head form the pairs."""
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat([second, first], -1) * sin).to(x.dtype)


def _norm(config: TransformerConfig) -> nn.Module:
    if config.norm == "layernorm":
        return nn.LayerNorm(config.width, eps=1e-5)
    return nn.RMSNorm(config.width, eps=1e-5)


class Block(nn.Module):
    """One pre-norm layer."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        width, ff_width, bias = config.width, config.ff_width, config.norm == "layernorm"
        self.attention_norm = _norm(config)
        self.qkv = nn.Linear(width, 3 * width, bias)  # queries, keys, values
        self.output = nn.Linear(width, width, bias)
        self.ff_norm = _norm(config)
        self.up = nn.Linear(width, ff_width, bias)
        if config.feed_forward == "swiglu":
            self.gate = nn.Linear(width, ff_width, bias)
        self.down = nn.Linear(ff_width, width, bias)
        self.drop = nn.Dropout(config.dropout)

    def project(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values [B, T, H, K]; `turn`: rotary positions, where the model has them."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.config.num_heads, -1))
        q, k, v = qkv.unbind(2)
        return (q, k, v) if turn is None else (rotate(q, *turn), rotate(k, *turn), v)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Adds what attention mixed [B, T, H, K], then the feed-forward, to the residual stream [B, T, D]."""
        x = x + self.drop(self.output(mixed.flatten(2)))
        y = self.ff_norm(x)
        hidden = F.silu(self.gate(y)) * self.up(y) if self.config.feed_forward == "swiglu" else F.relu(self.up(y))
        return x + self.drop(self.down(hidden))


class Transformer(nn.Module):
    """Blocks and a last norm, over embeddings [B, T, D]."""

    def __init__(self, config: TransformerConfig, *, causal: bool):
        super().__init__()
        self.config, self.causal = config, causal
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = _norm(config)

    def _enter(self, x: Tensor, positions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        if self.config.position == "rotary":
            return x, turns(positions, self.config.width // self.config.num_heads)
        return (x + sinusoids(positions, self.config.width)).to(x.dtype), None

    def forward(self, x: Tensor, positions: Tensor, segments: Segments, cache: Cache | None = None) -> Tensor:
        """→ features [B, T, D]. `cache`, if given, is filled from its first slot."""
        x, turn = self._enter(x, positions)
        for layer, block in enumerate(self.blocks):
            q, k, v = block.project(x, turn)
            if cache is not None:
                cache.keys[layer][:, :, : k.shape[1]] = k.transpose(1, 2)
                cache.values[layer][:, :, : v.shape[1]] = v.transpose(1, 2)
            x = block.finish(x, segments.attend(q, k, v, causal=self.causal))
        return self.norm(x)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """One position a row, [B, 1, D] → features [B, 1, D]; the cache grows by it."""
        x, turn = self._enter(x, torch.tensor(cache.lengths, device=x.device)[:, None])
        for layer, block in enumerate(self.blocks):
            q, k, v = block.project(x, turn)
            cache.append(layer, k, v)
            x = block.finish(x, cache.attend(layer, q))
        cache.lengths = [length + 1 for length in cache.lengths]
        return self.norm(x)


class Gar(nn.Module):
    """Causal model of hybrid sequences (or of VALL-E's, codes behind BOS): tokens → scores of codes, EOP and EOS."""

    def __init__(self, config: TransformerConfig, num_phones: int):
        super().__init__()
        self.embedding = nn.Embedding(FIRST_PHONE + num_phones, config.width)
        self.transformer = Transformer(config, causal=True)
        self.head = nn.Linear(config.width, NUM_OUTPUTS, bias=False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids [...] → embeddings [..., D] of about unit variance."""
        return self.embedding(tokens) * self.embedding.embedding_dim**0.5

    def features(self, tokens: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Tokens and positions (from 0 in each utterance) [B, T] → features [B, T, D], which `head` scores."""
        return self.transformer(self.embed(tokens), positions, segments)

    def forward(self, tokens: Tensor, positions: Tensor | None = None, segments: Segments | None = None) -> Tensor:
        """→ logits [B, T, 1026]. Without positions and segments: one utterance a row, padded at the right."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        return self.head(self.features(tokens, positions, segments or Segments())).float()

    def prefill(self, tokens: Tensor, lengths: list[int], slots: int) -> tuple[Tensor, Cache]:
        """Prefixes [B, T], padded at the right, row b's of lengths[b] tokens → logits behind each [B, 1026], and a cache.

        slots: positions that the cache has room for, the prefix included.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        x = self.embed(tokens)
        cache = Cache(self.transformer.config, len(tokens), slots, x)
        x = self.transformer(x, positions, Segments(), cache)
        cache.lengths = list(lengths)  # what stands behind a shorter prefix is overwritten before it is seen
        last = torch.tensor(lengths, device=x.device) - 1
        return self.head(x[torch.arange(len(x), device=x.device), last]).float(), cache

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """The next token of each row [B] → logits behind it [B, 1026]. The cache grows by it."""
        return self.head(self.transformer.step(self.embed(tokens)[:, None], cache))[:, 0].float()


@dataclasses.dataclass
class NarInputs:
    """Rows of n phones, then T frames; all [B, R] but codes [B, R, 8].

    phones: the phone at a phone's position, the aligned phone at a frame's. is_frame: bool. codes: of all layers, those
    not known any value. known: how many layers of a frame are given (8 in the prompt, stage − 1 behind it). stage:
    2 … 8, the same over an utterance. positions: from 0 in each utterance.
    """

    phones: Tensor
    is_frame: Tensor
    codes: Tensor
    known: Tensor
    stage: Tensor
    positions: Tensor


class Nar(nn.Module):
    """Bidirectional model that fills RVQ layers 2 … 8, one layer a pass.

    aligned_phones: a frame's input carries its phone. tied_heads: the head of layer s is the embedding of layer s.
    """

    def __init__(
        self, config: TransformerConfig, num_phones: int, *, aligned_phones: bool = True, tied_heads: bool = True
    ):
        super().__init__()
        self.aligned_phones = aligned_phones
        self.phone_embedding = nn.Embedding(num_phones, config.width)
        self.code_embedding = nn.Parameter(torch.randn(NUM_LAYERS, NUM_CODES, config.width) * config.width**-0.5)
        self.stage_embedding = nn.Embedding(NUM_STAGES, config.width)
        self.transformer = Transformer(config, causal=False)
        if not tied_heads:
            self.heads = nn.Parameter(torch.randn(NUM_STAGES, NUM_CODES, config.width) * config.width**-0.5)
        self.tied_heads = tied_heads

    def forward(self, inputs: NarInputs, segments: Segments | None = None) -> Tensor:
        """→ features [B, R, D]; `logits` scores codes from them."""
        layers = torch.arange(NUM_LAYERS, device=inputs.codes.device)
        given = inputs.is_frame[..., None] & (layers < inputs.known[..., None])
        # One sum over the known layers' embeddings, in place of eight look-ups.
        x = F.embedding_bag(
            (inputs.codes + NUM_CODES * layers).flatten(0, 1),
            self.code_embedding.flatten(0, 1),
            mode="sum",
            per_sample_weights=given.flatten(0, 1).to(self.code_embedding.dtype),
        ).unflatten(0, inputs.phones.shape)
        phones = self.phone_embedding(inputs.phones)
        x = x + (phones if self.aligned_phones else phones.masked_fill(inputs.is_frame[..., None], 0))
        x = (x + self.stage_embedding(inputs.stage - 2)) * x.shape[-1] ** 0.5
        return self.transformer(x, inputs.positions, segments or Segments())

    def logits(self, x: Tensor, stage: int) -> Tensor:
        """Features [..., D] → scores of one stage's codes [..., 1024]."""
        return F.linear(x, self.code_embedding[stage - 1] if self.tied_heads else self.heads[stage - 2]).float()


def gar_loss(
    model: Gar, tokens: Tensor, targets: Tensor, loss_mask: Tensor, positions: Tensor, segments: Segments
) -> Tensor:
    """Mean cross-entropy in nats over the positions where `loss_mask` [B, T] is true; only these reach the head."""
    x = model.features(tokens, positions, segments)
    return F.cross_entropy(model.head(x[loss_mask]).float(), targets[loss_mask].long())


def nar_loss(model: Nar, inputs: NarInputs, loss_mask: Tensor, segments: Segments) -> Tensor:
    """Mean cross-entropy in nats of each utterance's own stage, over the positions where `loss_mask` [B, R] is true."""
    x, stage, codes = (a[loss_mask] for a in (model(inputs, segments), inputs.stage, inputs.codes.long()))
    total = torch.zeros((), device=x.device)
    for one in stage.unique().tolist():
        here = stage == one
        total = total + F.cross_entropy(model.logits(x[here], one), codes[here, one - 1], reduction="sum")
    return total / max(len(x), 1)
