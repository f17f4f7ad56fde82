"""Exported models: loading and saving them, teacher forcing, phones and a prompt to codes, and to a waveform."""

import ctypes
import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ellav_jax.export.torch_codec import HOP, SAMPLE_RATE, Codec
from ellav_jax.export.torch_decoding import (
    SILENCE,
    Limits,
    Sampling,
    decode_rows,
    fill_layers,
    nar_inputs,
)
from ellav_jax.export.torch_modules import PAD, Gar, Nar, NarInputs, Segments, TransformerConfig, gar_loss, nar_loss
from ellav_jax.export.torch_sequence import Layout, Utterance, audio_durations, build_sequence, make_row

FORMAT = "ellav-torch"
FORMAT_VERSION = 1
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FILE_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclasses.dataclass(frozen=True, eq=False)
class FirstLayer:
    """codes of layer 1 [F], frames in the audio of the prompt's phones and those said, and whether it ended by itself."""

    codes: Tensor
    durations: list[int]
    finished: bool


@dataclasses.dataclass(frozen=True, eq=False)
class GarBatch:
    """Sequences padded at the right: tokens, targets and loss mask, [B, T]."""

    tokens: Tensor
    targets: Tensor
    loss_mask: Tensor


class ExportedGar(Gar):
    """A GAR that knows its layout and phones. config, frontend: what stands beside its weights, as JSON."""

    def __init__(self, config: dict[str, Any], frontend: dict[str, Any]):
        super().__init__(TransformerConfig(**config["transformer"]), len(frontend["phones"]))
        self.config, self.frontend, self.phones = config, frontend, list(frontend["phones"])
        self.layout = Layout(**config["layout"])

    def ids(self, names: Sequence[str]) -> list[int]:
        """Phones by name → their ids. Raises ValueError for one that is not in the inventory."""
        return _ids(names, self.phones)

    def batch(self, utterances: Sequence[Utterance]) -> GarBatch:
        """What teacher forcing asks of these utterances; `self(batch.tokens)` are the logits [B, T, 1026]."""
        built = [build_sequence(one, self.layout) for one in utterances]
        shape = (len(built), max(len(tokens) for tokens, _, _ in built))
        tokens, targets = torch.full(shape, PAD), torch.zeros(shape, dtype=torch.long)
        loss_mask = torch.zeros(shape, dtype=torch.bool)
        for at, (own, wanted, mask) in enumerate(built):
            tokens[at, : len(own)] = torch.tensor(own)
            targets[at, : len(own)] = torch.tensor(wanted)
            loss_mask[at, : len(own)] = torch.tensor(mask)
        device = self.head.weight.device
        return GarBatch(tokens.to(device), targets.to(device), loss_mask.to(device))

    def loss(self, batch: GarBatch) -> Tensor:
        """Mean cross-entropy in nats."""
        positions = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)
        return gar_loss(self, batch.tokens, batch.targets, batch.loss_mask, positions, Segments())

    def generate(
        self,
        prompts: Sequence[Utterance],
        phones: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        limits: Limits = Limits(),
        floors: Sequence[Sequence[int] | None] | None = None,
        caps: Sequence[Sequence[int] | None] | None = None,
    ) -> list[FirstLayer]:
        """Speaks phones (ids) behind prompts, all sentences in one batch.

        floors, caps: least and most frames of each phone, for sentences where they are not the limits'. Raises ValueError.
        """
        sentences = [[int(phone) for phone in sentence] for sentence in phones]
        rows = []
        for at, (prompt, sentence) in enumerate(zip(prompts, sentences, strict=True)):
            if not sentence or not all(0 <= phone < len(self.phones) for phone in (*sentence, *prompt.phones)):
                raise ValueError(f"sentence {at}: expected phones, of ids 0 … {len(self.phones) - 1}")
            least = (floors and floors[at]) or [limits.min_frames] * len(sentence)
            most = (caps and caps[at]) or [limits.cap(self.phones[phone]) for phone in sentence]
            if len(least) != len(sentence) or len(most) != len(sentence):
                raise ValueError(f"sentence {at}: expected a floor and a cap for each of {len(sentence)} phones")
            if any(not 1 <= floor <= cap for floor, cap in zip(least, most, strict=True)):
                raise ValueError(f"sentence {at}: expected 1 ≤ floor ≤ cap for each phone")
            rows.append(
                make_row(prompt, sentence, least, most, limits.most_frames(len(sentence), sum(least)), self.layout)
            )
        spoken = decode_rows(self, rows, self.layout.eop_input, sampling)
        return [
            FirstLayer(
                torch.tensor(one.codes, dtype=torch.long),
                audio_durations(row, one.durations, len(one.codes), one.finished, prompt, len(sentence), self.layout),
                one.finished,
            )
            for row, one, prompt, sentence in zip(rows, spoken, prompts, sentences, strict=True)
        ]


class ExportedNar(Nar):
    """A NAR that knows its phones. config, frontend: as of `ExportedGar`."""

    def __init__(self, config: dict[str, Any], frontend: dict[str, Any]):
        super().__init__(TransformerConfig(**config["transformer"]), len(frontend["phones"]), **config["nar"])
        self.config, self.frontend, self.phones = config, frontend, list(frontend["phones"])
        self.layout = Layout(**config["layout"])

    def batch(
        self, utterances: Sequence[Utterance], prompt_frames: Sequence[int], stages: Sequence[int]
    ) -> tuple[NarInputs, Segments, Tensor]:
        """What teacher forcing asks of these utterances: inputs, segments and the loss mask [B, R]; a stage 2 … 8 for each.

        `self.logits(self(inputs, segments), stage)` are the scores [B, R, 1024] of one stage.
        """
        return nar_inputs(utterances, prompt_frames, stages, self.code_embedding.device)

    def loss(self, batch: tuple[NarInputs, Segments, Tensor]) -> Tensor:
        """Mean cross-entropy in nats."""
        inputs, segments, loss_mask = batch
        return nar_loss(self, inputs, loss_mask, segments)

    def fill(
        self, prompts: Sequence[Utterance], phones: Sequence[Sequence[int]], firsts: Sequence[FirstLayer]
    ) -> list[Tensor]:
        """Layer 1 behind prompts → codes [T, 8] of what is behind them, greedily, all sentences in one batch."""
        whole = [
            _behind(prompt, sentence, first) for prompt, sentence, first in zip(prompts, phones, firsts, strict=True)
        ]
        given = [len(prompt.codes) for prompt in prompts]
        return [codes[begin:] for codes, begin in zip(fill_layers(self, whole, given), given, strict=True)]


def _behind(prompt: Utterance, phones: Sequence[int], first: FirstLayer) -> Utterance:
    codes = first.codes.new_zeros(len(first.codes), prompt.codes.shape[1])
    codes[:, 0] = first.codes
    return Utterance([*prompt.phones, *phones], first.durations, torch.cat([prompt.codes, codes]))


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """A sentence spoken: samples at 24 kHz (None without a codec), codes [F, 8], phones and their frames, and whether it
    ended by itself."""

    waveform: Tensor | None
    codes: Tensor
    phones: tuple[str, ...]
    durations: list[int]
    finished: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Speaker:
    """What an export holds; None for what it doesn't. Text becomes phones elsewhere: `frontend.json` says how."""

    gar: ExportedGar | None
    nar: ExportedNar | None
    codec: Codec | None

    def prompt(self, waveform: Tensor, sample_rate: int, phones: Sequence[str], durations: Sequence[int]) -> Utterance:
        """A recording of the voice (mono, 24 kHz), its phones by name and their frames (1/75 s), which add up to its own."""
        if sample_rate != SAMPLE_RATE:
            raise ValueError(f"the prompt has {sample_rate} Hz, expected {SAMPLE_RATE}; resample it first")
        return Utterance(_ids(phones, self._part("gar").phones), durations, self._part("codec").encode(waveform))

    def speak(
        self,
        prompts: Sequence[Utterance],
        phones: Sequence[Sequence[str]],
        sampling: Sampling = Sampling(),
        limits: Limits = Limits(),
    ) -> list[Speech]:
        """Speaks sentences (phones by name) in the voices of prompts, all in one batch. Raises ValueError.

        The silence that begins a sentence is dropped where its prompt ends with one.
        """
        gar, nar = self._part("gar"), self._part("nar")
        sentences = [
            list(one[1:]) if one[:1] == [SILENCE] and len(one) > 1 and gar.phones[prompt.phones[-1]] == SILENCE else one
            for prompt, one in zip(prompts, map(list, phones), strict=True)
        ]
        ids = [gar.ids(one) for one in sentences]
        firsts = gar.generate(prompts, ids, sampling, limits)
        codes = nar.fill(prompts, ids, firsts)
        return [
            Speech(
                self._waveform(prompt, own),
                own,
                tuple(sentence),
                _behind_prompt(first.durations, prompt),
                first.finished,
            )
            for prompt, own, sentence, first in zip(prompts, codes, sentences, firsts, strict=True)
        ]

    def _waveform(self, prompt: Utterance, codes: Tensor) -> Tensor | None:
        """What is behind the prompt; decoded with it, as the decoder looks back."""
        if self.codec is None:
            return None
        return self.codec.decode(torch.cat([prompt.codes, codes]))[len(prompt.codes) * HOP :].cpu()

    def _part(self, name: str) -> Any:
        part = getattr(self, name)
        if part is None:
            raise ValueError(f"this export holds no {name}; export it with ellav export --{name}")
        return part


def _behind_prompt(durations: Sequence[int], prompt: Utterance) -> list[int]:
    end, ends = 0, []
    for frames in durations:
        end += frames
        ends.append(max(end - len(prompt.codes), 0))
    own = ends[len(prompt.phones) :]
    return [end - begin for begin, end in zip([0, *own], own, strict=False)]


def _ids(names: Sequence[str], phones: list[str]) -> list[int]:
    if unknown := [name for name in names if name not in phones]:
        raise ValueError(f"no phone {unknown[0]!r} in the inventory; expected one of {' '.join(phones)}")
    return [phones.index(name) for name in names]


def load(folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Speaker:
    """All that an export holds in its folders gar, nar and codec. dtype: of GAR and NAR, by default that of their files.

    Raises ValueError where a file is damaged or doesn't fit.
    """
    parts = {kind: Path(folder) / kind for kind in ("gar", "nar", "codec")}
    if not any(path.is_dir() for path in parts.values()):
        raise ValueError(f"{folder}: holds none of the folders gar, nar, codec; expected what ellav export wrote")
    return Speaker(
        load_gar(parts["gar"], device, dtype) if parts["gar"].is_dir() else None,
        load_nar(parts["nar"], device, dtype) if parts["nar"].is_dir() else None,
        load_codec(parts["codec"], device) if parts["codec"].is_dir() else None,
    )


def load_gar(folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> ExportedGar:
    """The GAR in a folder (OUT/gar), set to evaluate. Raises ValueError as `load` does."""
    return _load(folder, "gar", lambda config: ExportedGar(config, _frontend(folder)), device, dtype)


def load_nar(folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> ExportedNar:
    """The NAR in a folder (OUT/nar), set to evaluate. Raises ValueError as `load` does."""
    return _load(folder, "nar", lambda config: ExportedNar(config, _frontend(folder)), device, dtype)


def load_codec(folder: str | Path, device: torch.device | str = "cpu") -> Codec:
    """The codec in a folder (OUT/codec). Raises ValueError as `load` does."""
    return _load(folder, "codec", lambda config: Codec(**config["encodec"]), device, torch.float32)


def save(model: ExportedGar | ExportedNar, folder: str | Path) -> None:
    """Writes a model, fine-tuned say, as `ellav export` does, for `load` and `ellav import`.

    Raises ValueError when the folder is there already.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder}: is there already; name a new folder")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    dtype = next(name for name, one in DTYPES.items() if one == next(iter(state.values())).dtype)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _write_weights(temporary / "model.safetensors", state, dtype)
    for name, content in (("config.json", model.config | {"dtype": dtype}), ("frontend.json", model.frontend)):
        (temporary / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copy(__file__, temporary / "modeling_ellav.py")
    temporary.rename(folder)


def _write_weights(path: Path, state: Mapping[str, Tensor], dtype: str) -> None:
    """A safetensors file: length of the header, the header, the tensors. The package's own writer needs numpy."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in sorted(state.items()):
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": FILE_DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(state.items()):
            file.write(ctypes.string_at(tensor.data_ptr(), tensor.nbytes))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def _frontend(folder: str | Path) -> dict[str, Any]:
    return _read(Path(folder) / "frontend.json")


def _load(
    folder: str | Path,
    kind: str,
    make: Callable[[dict[str, Any]], Any],
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> Any:
    described, weights = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    config = _read(described)
    known = isinstance(config, dict) and config.get("format") == FORMAT
    if not known or config.get("format_version") != FORMAT_VERSION or config.get("kind") != kind:
        raise ValueError(
            f"{described}: not the description of a {kind} that ellav export wrote, in format {FORMAT_VERSION}"
        )
    try:
        with torch.device("meta"):
            model = make(config)
        dtype = dtype or DTYPES[config["dtype"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{described}: a field is missing, unknown or of another kind ({error!r})") from None
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{weights}: not a readable safetensors file ({error})") from None
    found, wanted = ({name: tuple(tensor.shape) for name, tensor in one.items()} for one in (state, model.state_dict()))
    if problems := misfits(found, wanted):
        raise ValueError(f"{weights} does not fit its config.json: {'; '.join(problems)}")
    model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in state.items()}, assign=True)
    return model.eval()


def misfits(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is missing, left over or of another shape, a line each."""
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"{name} is left over" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} is {list(found[name])}, expected {list(wanted[name])}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]
    return problems
