"""Model cards of an export: what it is, how to use it, where it comes from, on which terms."""

from collections.abc import Sequence
from typing import Any

from ellav_jax.export.folder import ExportedModel

_NAMES = {"gar": "GAR (layer 1)", "nar": "NAR (layers 2 to 8)", "codec": "codec"}


def model_card(model: ExportedModel, dtype: str) -> str:
    """README.md of OUT/gar or OUT/nar."""
    name, rows = _about(model, dtype)
    loader = f"load_{model.kind}"
    example = f'    import modeling_ellav as ellav\n\n    {model.kind} = ellav.{loader}(".")\n'
    return _card(f"ELLA-V: {name}", _usage(example), rows, _terms([model]))


def llama_card(model: ExportedModel, dtype: str) -> str:
    """README.md of OUT/llama, ahead of how to use it, which `write_llama` adds."""
    name, rows = _about(model, dtype)
    how = f"Exported from {_ELLAV_JAX} to a folder for transformers.\n"
    terms = _terms([model], "ellav_logits_processor.py")
    return _card(f"ELLA-V: {name}, a LlamaForCausalLM", how, rows, terms, library="transformers")


def _about(model: ExportedModel, dtype: str) -> tuple[str, list[tuple[str, str]]]:
    """Name of a model, and what its card says of it."""
    transformer, layout = model.config.transformer, model.layout
    name = "VALL-E's AR (layer 1)" if model.kind == "gar" and not layout.interleaved else _NAMES[model.kind]
    size = (
        f"{transformer.num_layers} layers of width {transformer.width}, {transformer.num_heads} heads, feed-forward "
        f"{transformer.ff_width}; {transformer.norm}, {transformer.feed_forward}, {transformer.position} positions"
    )
    rows = [
        ("Model", name),
        ("Transformer", size),
        ("Sequence", f"{layout.order}, local advance {layout.local_advance} frames, {_global(layout.global_advance)}"),
        ("Phones", f"{len(model.frontend.phones)} ({model.frontend.phone_set}, {model.frontend.g2p_language})"),
        ("Codec", f"{model.codec['name']} (sha256 {model.codec['sha256']})"),
        ("Weights", f"{dtype}; {_WEIGHTS[model.provenance['weights']]}"),
        *_origin(model.provenance),
    ]
    return name, rows


def codec_card(name: str, sha256: str) -> str:
    """README.md of OUT/codec."""
    rows = [("Codec", f"EnCodec 24 kHz, 6 kbit/s, its first 8 codebooks: {name} (sha256 of its file {sha256})")]
    example = (
        '    import modeling_ellav as ellav\n\n    codec = ellav.load_codec(".")\n    waveform = codec.decode(codes)\n'
    )
    return _card("ELLA-V: codec", _usage(example), rows, [_codec_terms(name)])


def root_card(models: Sequence[ExportedModel], codec: str | None, dtype: str) -> str:
    """README.md of OUT. codec: the name of the codec that is in it."""
    inside = [one.kind for one in models] + (["codec"] if codec else [])
    rows = [(f"`{kind}/`", f"{_NAMES[kind]}; see its README.md") for kind in inside]
    rows += [("Weights", dtype)] if models else []
    example = '    import modeling_ellav as ellav\n\n    speaker = ellav.load(".")\n'
    if {"gar", "nar"} <= set(inside):
        example += (
            "    # Phones by name and their frames (1/75 s) in a recording of the voice; codes [T, 8] of that recording.\n"
            "    prompt = ellav.Utterance(speaker.gar.ids(prompt_phones), prompt_frames, prompt_codes)\n"
            "    [speech] = speaker.speak([prompt], [phones], ellav.Sampling(top_p=0.9))\n"
        )
    terms = _terms(models) + ([_codec_terms(codec)] if codec else [])
    return _card("ELLA-V", _usage(example), rows, list(dict.fromkeys(terms)))


_ELLAV_JAX = "[ellav_jax](https://arxiv.org/abs/2401.07333) (ELLA-V in JAX)"
_WEIGHTS = {
    "ema": "the moving average over the run, as synthesis uses it",
    "last": "as they stood at that step",
}


def _global(advance: bool) -> str:
    return "with global advance" if advance else "without global advance"


def _usage(example: str) -> str:
    return f"""\
Exported from {_ELLAV_JAX} to PyTorch. `modeling_ellav.py` needs torch and
safetensors alone:

{example}"""


def _card(
    title: str, how: str, rows: Sequence[tuple[str, str]], terms: Sequence[str], library: str | None = None
) -> str:
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""---
license: other
pipeline_tag: text-to-speech
tags: [ella-v, text-to-speech, encodec]
{f"library_name: {library}{chr(10)}" if library else ""}---

# {title}

{how}
Text becomes phones by the rules in `frontend.json`, outside this folder (`ellav_jax.frontend`).

## What it is

| | |
|---|---|
{table}

## Terms

{chr(10).join(f"- {line}" for line in terms)}
"""


def _origin(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    step, imported = provenance.get("step"), provenance.get("imported")
    rows = [
        ("Step", "not known" if step is None else str(step)),
        ("Exported with", f"ellav-jax {provenance['exported_with']}"),
    ]
    if imported:
        return [*rows, *((f"{name}, before ellav import", value) for name, value in _origin(imported))]
    rows.append(("Data", "; ".join(map(_data_line, provenance.get("data") or [])) or "not recorded"))
    start = provenance.get("start") or {}
    versions = " ".join(f"{name} {version}" for name, version in (start.get("versions") or {}).items())
    if revision := start.get("revision"):
        versions += f" (git {revision})"
    rows.append(("Trained with", f"{versions} on {start.get('hardware', '?')}" if versions else "not recorded"))
    return rows


def _data_line(one: dict[str, Any]) -> str:
    share = f", share {one['share']}" if one.get("share", "1") != "1" else ""
    return f"{one['corpus']} (utterances {one['utterances'][:12]}…{share})"


def _terms(models: Sequence[ExportedModel], code: str = "modeling_ellav.py") -> list[str]:
    lines = [f"`{code}`: Apache-2.0, © 2026 The ellav_jax authors."]
    corpora: dict[str, dict[str, Any]] = {}
    for model in models:
        origin: dict[str, Any] | None = model.provenance
        while origin:
            corpora |= {one["corpus"]: one for one in origin.get("data") or []}
            origin = origin.get("imported")
    for name, one in sorted(corpora.items()):
        told = ". ".join(one[key] for key in ("licence", "attribution") if one.get(key))
        lines.append(f"Weights: trained on {name}. {told or 'Its terms are not recorded here; see the corpus.'}")
    if models and not corpora:
        lines.append("Weights: what they were trained on is not recorded here; its terms hold for them.")
    return lines


def _codec_terms(name: str) -> str:
    if name == "bundled":
        return "Codec: trained on recordings under CC BY-SA 3.0 and CC BY 3.0 and on synthetic speech (NOTICE of ellav_jax)."
    return f"Codec {name}: on the terms of those who published its weights."
