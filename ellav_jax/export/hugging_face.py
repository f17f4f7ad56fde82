"""A GAR of the llama preset as a folder that `transformers` loads: a LlamaForCausalLM, its tokenizer, its logits processor.

Nothing of Hugging Face's is needed to write it. What has to agree: the halves of a head form rotary pairs in both, with base
10,000; RMSNorm's epsilon is 1e-5; matrices are [out, in] there; the factor that embeddings are multiplied by goes into them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ellav_jax import files
from ellav_jax.errors import InputError
from ellav_jax.export.convert import Arrays, to_torch
from ellav_jax.export.safetensors_file import DTYPES, write_weights
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.vocabulary import BOS, EOP, EOS, FIRST_PHONE, NUM_CODES, NUM_OUTPUTS, PAD, Vocabulary

MAX_POSITIONS = 8192
"""What is told as the longest sequence, about 80 s of speech. Rotary positions have no table, so it binds nothing."""
SPECIAL = {"<eop>": EOP, "<eos>": EOS, "<bos>": BOS, "<pad>": PAD}
"""Tokens that are neither codes nor phones."""

_PROCESSOR = "ellav_logits_processor.py"
_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "output": "self_attn.o_proj",
    "ff_norm": "post_attention_layernorm",
    "up": "mlp.up_proj",
    "gate": "mlp.gate_proj",
    "down": "mlp.down_proj",
}


def write_llama(
    params: Mapping[str, Any],
    config: GarConfig,
    layout: LayoutConfig,
    frontend: Frontend,
    folder: Path,
    dtype: str,
    card: str,
) -> None:
    """Writes a GAR as a LlamaForCausalLM; files of the same names in `folder` are replaced.

    params: of the GAR, float32. dtype: of the weights written, float32, bfloat16 or float16. card: Markdown that README.md
    begins with; how to use the folder comes behind it.

    A LlamaForCausalLM has as many outputs as ids that it embeds; the GAR has outputs for the first 1,026 alone. The head's
    rows of the others (BOS, PAD, phones) are the mean of those 1,026 rows, so their score is the mean of the scores: always
    below the best of them, and greedy choice never falls on it. For sampling, `generation_config.json` suppresses these ids,
    which `generate` does ahead of the logits processor that is shipped; that gives a phone its score where one is due.

    Raises InputError for a model that is no Llama, an unknown dtype, a weight too large for it, or a phone with the name
    of another token.
    """
    transformer = config.transformer
    check_llama(transformer)
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} of the weights; expected one of {', '.join(DTYPES)}")
    vocabulary = _tokens(frontend)
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(folder / "model.safetensors") as temporary:
        state = llama_state(params)
        write_weights(temporary, {name: array.shape for name, array in state.items()}, state.__getitem__, dtype)
    files.write_json(folder / "config.json", llama_config(transformer, len(vocabulary)) | _extra(layout, dtype))
    files.write_json(folder / "generation_config.json", _generation(layout, len(vocabulary)))
    files.write_json(folder / "tokenizer.json", _tokenizer(vocabulary))
    files.write_json(folder / "tokenizer_config.json", _tokenizer_config())
    frontend.to_json(folder / "frontend.json")
    files.write_bytes(folder / _PROCESSOR, Path(__file__).with_name(_PROCESSOR).read_bytes())
    files.write_bytes(folder / "README.md", f"{card.rstrip()}\n\n{_usage(layout, frontend)}".encode())


def check_llama(transformer: TransformerConfig) -> None:
    """Raises InputError for a transformer that is no Llama."""
    if (transformer.norm, transformer.feed_forward, transformer.position) != ("rmsnorm", "swiglu", "rotary"):
        raise InputError(
            f"a LlamaForCausalLM has rmsnorm, swiglu and rotary positions (the preset llama), this GAR has "
            f"{transformer.norm}, {transformer.feed_forward} and {transformer.position}; export it without --llama"
        )


def llama_config(config: TransformerConfig, vocabulary_size: int) -> dict[str, Any]:
    """Fields of transformers' LlamaConfig for a transformer of the llama preset."""
    return {
        "vocab_size": vocabulary_size,
        "hidden_size": config.width,
        "intermediate_size": config.ff_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }


def llama_state(params: Mapping[str, Any]) -> Arrays:
    """Parameters of a GAR of the llama preset → state dict of LlamaForCausalLM, float32; outputs as in `write_llama`."""
    twin = to_torch(params)
    embedding_VxD, head_OxD = twin.pop("embedding.weight"), twin.pop("head.weight")
    no_output_VxD = np.broadcast_to(head_OxD.mean(0), (len(embedding_VxD) - len(head_OxD), head_OxD.shape[1]))
    state = {
        "model.embed_tokens.weight": embedding_VxD * np.float32(embedding_VxD.shape[1] ** 0.5),
        "model.norm.weight": twin.pop("transformer.norm.weight"),
        "lm_head.weight": np.concatenate([head_OxD, no_output_VxD]),
    }
    for name, array in twin.items():
        _, _, layer, part, weight = name.split(".")
        prefix = f"model.layers.{layer}."
        if part == "qkv":
            names = (f"{prefix}self_attn.{one}_proj.{weight}" for one in "qkv")
            state.update(zip(names, np.split(array, 3), strict=True))
        else:
            state[f"{prefix}{_BLOCK_NAMES[part]}.{weight}"] = array
    return {name: np.ascontiguousarray(array) for name, array in state.items()}


def _extra(layout: LayoutConfig, dtype: str) -> dict[str, Any]:
    """What config.json holds beside the model's shape; "ellav" is for the logits processor."""
    fields = {name: getattr(layout, name) for name in ("order", "global_advance", "local_advance")}
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": dtype, "ellav": fields}


def _generation(layout: LayoutConfig, vocabulary_size: int) -> dict[str, Any]:
    content: dict[str, Any] = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    suppressed = list(range(NUM_OUTPUTS, vocabulary_size))
    if layout.interleaved:
        return content | {"suppress_tokens": suppressed}
    # VALL-E's AR knows no EOP, and says one frame at least.
    return content | {"suppress_tokens": [EOP, *suppressed], "begin_suppress_tokens": [EOS]}


def _tokens(frontend: Frontend) -> dict[str, int]:
    """Name → id of all tokens that a GAR embeds."""
    tokens = {f"<c{code}>": code for code in range(NUM_CODES)} | SPECIAL
    if taken := sorted(tokens.keys() & set(frontend.phones)):
        raise InputError(f"phone {taken[0]!r} has the name of another token; rename it in the dictionary")
    tokens |= {phone: FIRST_PHONE + index for index, phone in enumerate(frontend.phones)}
    return dict(sorted(tokens.items(), key=lambda item: item[1]))


def _tokenizer(vocabulary: dict[str, int]) -> dict[str, Any]:
    """tokenizer.json of the tokenizers package: words between spaces. What is no token is an error: no id stands for it."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id_, "content": name, **flags, "special": True} for name, id_ in SPECIAL.items()],
        "normalizer": {"type": "NFC"},  # as phones of the IPA are written
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_POSITIONS,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
    }


_GRAMMAR = {
    "compact": "Phones are given, not predicted: where the model wants `<eop>`, the next phone's id takes its place.",
    "paper": "Phones are given, not predicted: behind `<eop>` the next phone's id is put.",
    "valle": "This GAR is VALL-E's AR: behind `<bos>` it says codes until `<eos>`.",
}


def _usage(layout: LayoutConfig, frontend: Frontend) -> str:
    silence, *others = frontend.phones
    example = json.dumps(" ".join([silence, *others[:3], silence]), ensure_ascii=False)
    last = Vocabulary(len(frontend.phones)).size - 1
    return f"""\
## Use with transformers

This folder holds the GAR, which predicts the first of EnCodec's 8 codebooks, as a `LlamaForCausalLM`. Ids 0 to
{NUM_CODES - 1} are codes (`<c0>` …), {EOP} `<eop>`, {EOS} `<eos>`, {BOS} `<bos>`, {PAD} `<pad>`; phones follow up to {last}
under their names, which `tokenizer` wants with spaces between.
{_GRAMMAR[layout.order]}
`ellav_logits_processor.py` keeps to this grammar, and to floors and caps on the frames of each phone; it needs torch and
transformers alone. Codebooks 2 to 8 are for the NAR, which is no Llama. Run in this folder:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from ellav_logits_processor import Layout, PhoneByPhone, batch, sentence, take_apart

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
layout = Layout.of(model.config)

# In a recording's voice: sentence(layout, phones, prompt_phones, prompt_durations, prompt_codes), as its docstring says.
sentences = [sentence(layout, tokenizer({example}).input_ids)]
inputs = batch(sentences)
output = model.generate(
    **inputs,
    logits_processor=LogitsProcessorList([PhoneByPhone(layout, sentences)]),
    max_new_tokens=max(one.max_new_tokens for one in sentences),
    do_sample=True,
    top_p=0.9,
    top_k=0,
)
for one, row in zip(sentences, output[:, inputs["input_ids"].shape[1] :]):
    spoken = take_apart(layout, one, row)
    print(spoken.codes, spoken.durations, spoken.finished)
```
"""
