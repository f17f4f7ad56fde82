"""PyTorch opponents of GAR decoding: our plain twin, and `transformers`' Llama with a static cache."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from ellav_jax.export import torch_modules as twin
from ellav_jax.export.convert import to_torch, torch_config
from ellav_jax.export.hugging_face import llama_config, llama_state
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.vocabulary import FIRST_PHONE, NUM_CODES

Decode = Callable[[], np.ndarray]
"""Decodes everything once, greedily. → the codes of each row one behind the other, [B, F]."""


def opponents(
    config: TransformerConfig,
    params: dict[str, Any],
    num_phones: int,
    prefix_BxS: np.ndarray,
    schedule_BxC: np.ndarray,
    slots: int,
) -> dict[str, Decode]:
    """What there is to compare with, each with one thread and with all: at one row threads cost more than they give.

    prefix_BxS: tokens, no padding. schedule_BxC: token that is fed at each model call behind the prefix, −1 where the code
    chosen last is. slots: of the cache. Llama is compared where the model is one in all but its name.
    """
    schedule = torch.from_numpy(schedule_BxC).long()
    prefix = torch.from_numpy(prefix_BxS).long()
    makers = {"twin": lambda: _twin(config, params, num_phones, prefix, schedule, slots)}
    is_llama = (config.norm, config.feed_forward, config.position) == ("rmsnorm", "swiglu", "rotary")
    if is_llama and find_spec("transformers"):
        makers["Llama"] = lambda: _llama(config, params, num_phones, prefix, schedule, slots)
    cores = len(os.sched_getaffinity(0))
    return {
        f"{name}, {threads} thread{'s' * (threads > 1)}": _with_threads(make(), threads)
        for name, make in makers.items()
        for threads in sorted({1, cores})
    }


def _with_threads(decode: Decode, threads: int) -> Decode:
    def run() -> np.ndarray:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return decode()

    return run


def _twin(
    config: TransformerConfig,
    params: dict[str, Any],
    num_phones: int,
    prefix: torch.Tensor,
    schedule: torch.Tensor,
    slots: int,
) -> Decode:
    module = twin.Gar(twin.TransformerConfig(**torch_config(config)), num_phones)
    module.load_state_dict({name: torch.tensor(array) for name, array in to_torch(params).items()})
    module.eval()

    def decode() -> np.ndarray:
        logits, cache = module.prefill(prefix, [prefix.shape[1]] * len(prefix), slots)
        return _loop(logits, schedule, lambda tokens: module.step(tokens, cache))

    return decode


def _llama(
    config: TransformerConfig,
    params: dict[str, Any],
    num_phones: int,
    prefix: torch.Tensor,
    schedule: torch.Tensor,
    slots: int,
) -> Decode:
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    llama = LlamaConfig(**llama_config(config, FIRST_PHONE + num_phones) | {"max_position_embeddings": slots})
    model = LlamaForCausalLM(llama).eval()
    # The twin's head, and ours: 1,026 outputs.
    model.lm_head = torch.nn.Linear(config.width, twin.NUM_OUTPUTS, bias=False)
    state = llama_state(params)
    state["lm_head.weight"] = state["lm_head.weight"][: twin.NUM_OUTPUTS]
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})

    def decode() -> np.ndarray:
        cache = StaticCache(config=llama, max_cache_len=slots)
        place = torch.arange(prefix.shape[1])
        logits = model(prefix, past_key_values=cache, cache_position=place, logits_to_keep=1).logits[:, -1]

        def step(tokens: torch.Tensor) -> torch.Tensor:
            nonlocal place
            place = place[-1:] + 1
            return model(tokens[:, None], past_key_values=cache, cache_position=place).logits[:, -1]

        return _loop(logits, schedule, step)

    return decode


def _loop(logits: torch.Tensor, schedule: torch.Tensor, step: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    codes = []
    for fed in schedule.T:
        chosen = logits[:, :NUM_CODES].argmax(-1)
        codes.append(torch.where(fed < 0, chosen, -1))
        logits = step(torch.where(fed < 0, chosen, fed))
    codes_BxC = torch.stack(codes, 1)
    return codes_BxC[codes_BxC >= 0].view(len(codes_BxC), -1).numpy()
