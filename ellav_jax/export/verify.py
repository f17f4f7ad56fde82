"""An export beside the models that it came from: the same utterances through PyTorch and JAX, and how far they are apart.

Both sides compute in float32, JAX with weights rounded to the dtype of the export. PyTorch runs the `modeling_ellav.py` that
was written, not this package.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ellav_jax.codec.codec import Codec
from ellav_jax.codec.weights import CodecWeights
from ellav_jax.errors import InputError, RunError
from ellav_jax.export.folder import ExportedModel
from ellav_jax.export.modeling_file import NAME as MODELING
from ellav_jax.export.safetensors_file import rounded
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar
from ellav_jax.models.nar import NUM_LAYERS, Nar, NarInputs, nar_segment
from ellav_jax.synthesis.first_layer import decode_stretches, free_stretch, most_frames, shape_of
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.other_layers import Unfilled, fill_batch
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.shapes import GarShape
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.vocabulary import Vocabulary

TOLERANCE = 1e-4
"""Largest difference of logits, and of a waveform's samples."""
CODES_EQUAL = 0.999
"""Share of a waveform's codes that must be equal: an encoder's ties fall either way."""
FRAME_RATE = 75


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What was compared, the largest difference, and where it is. problem: why that is too much, or None."""

    what: str
    largest: float
    where: str
    problem: str | None = None


def random_utterances(num_phones: int, count: int = 4, seed: int = 0) -> list[Prompt]:
    """Utterances of 1 to 2 s or so without sense, for models whose data is not at hand."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        durations = rng.integers(2, 16, rng.integers(8, 16)).astype(np.int32)
        phones = rng.integers(0, num_phones, len(durations)).astype(np.int32)
        made.append(Prompt(phones, durations, rng.integers(0, 1024, (durations.sum(), NUM_LAYERS)).astype(np.int32)))
    return made


def load_modeling(folder: Path) -> ModuleType:
    """The modeling file of an export, as a module of its own. Raises InputError without torch."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("--verify runs the export in PyTorch: pip install 'ellav-jax[torch]'")
    spec = importlib.util.spec_from_file_location("modeling_ellav", folder / MODELING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verify(
    out: Path, models: Sequence[ExportedModel], codec: CodecWeights | None, dtype: str, utterances: Sequence[Prompt]
) -> list[Agreement]:
    """Compares all that `out` holds, on at least two utterances. Raises InputError where it can't be loaded."""
    modeling = load_modeling(out)
    found: list[Agreement] = []
    # Accelerators would round float32 products to fewer bits.
    with jax.default_matmul_precision("highest"):
        for model in models:
            compare = _verify_gar if model.kind == "gar" else _verify_nar
            found += compare(modeling, out / model.kind, _plain(model, dtype), model, utterances)
        if codec is not None:
            found += _verify_codec(modeling, out / "codec", codec, utterances)
    return found


def check(found: Sequence[Agreement]) -> None:
    """Raises RunError that tells of all that is too far apart."""
    if problems := [f"{one.what}: {one.problem}" for one in found if one.problem]:
        raise RunError(f"the export does not do what the checkpoint does: {'; '.join(problems)}")


def _plain(model: ExportedModel, dtype: str) -> TrainedModel:
    """The model in float32, with weights as the file has them, and the simplest attention."""
    transformer = dataclasses.replace(
        model.config.transformer, dtype="float32", attention="xla", remat="none", dropout=0.0
    )
    config = dataclasses.replace(model.config, transformer=transformer)
    num_phones = len(model.frontend.phones)

    def make(key: jax.Array) -> Gar | Nar:
        return Gar(config, Vocabulary(num_phones), key) if model.kind == "gar" else Nar(config, num_phones, key)

    def there_and_back(path: Any, leaf: Any) -> jax.Array:
        return jnp.asarray(rounded(np.asarray(leaf), dtype, jax.tree_util.keystr(path)).astype(np.float32))

    params = model.params if dtype == "float32" else jax.tree.map_with_path(there_and_back, model.params)
    return TrainedModel(ModelDefinition.of(make), params)


def _verify_gar(
    modeling: ModuleType, folder: Path, ours: TrainedModel, model: ExportedModel, utterances: Sequence[Prompt]
) -> list[Agreement]:
    import torch

    theirs = modeling.load_gar(folder, dtype=torch.float32)
    given = [_theirs(modeling, one) for one in utterances]
    batch = theirs.batch(given)
    tokens_BxT = batch.tokens.numpy().astype(np.int32)
    real_BxT = np.arange(tokens_BxT.shape[1]) < [[len(modeling.build_sequence(one, theirs.layout)[0])] for one in given]
    positions_BxT = np.broadcast_to(np.arange(tokens_BxT.shape[1], dtype=np.int32), tokens_BxT.shape)
    score = jax.jit(lambda params, *arrays: ours.definition.merge(params)(*arrays))
    expected = np.asarray(score(ours.params, tokens_BxT, real_BxT.astype(np.int32), positions_BxT))
    with torch.inference_mode():
        found = theirs(batch.tokens).numpy()
    agreements = [
        _closest("GAR logits, teacher forced", found, expected, real_BxT, ("utterance", "position", "output"))
    ]

    seconds = 2.0 + 2 * max(len(one.codes_Tx8) for one in utterances) / FRAME_RATE
    limits = PhoneLimits(max_seconds=seconds)
    pairs = [(one, utterances[(at + 1) % len(utterances)].phones_P) for at, one in enumerate(utterances)]
    spoken = _speak(ours, model, pairs, limits)
    asked = [(given[at], phones.tolist()) for at, (_, phones) in enumerate(pairs)]
    greedy, same = modeling.Sampling(temperature=0), modeling.Limits(max_seconds=seconds)

    def say(some: Sequence[tuple[Any, list[int]]]) -> list[Any]:
        return theirs.generate([prompt for prompt, _ in some], [phones for _, phones in some], greedy, same)

    for name, firsts in (
        ("in one batch", say(asked)),
        ("one by one", [first for one in asked for first in say([one])]),
    ):
        codes = [(first.codes.numpy(), one.codes_T) for first, one in zip(firsts, spoken, strict=True)]
        agreements.append(_equal(f"GAR codes, greedy, {name}", codes))
        frames = [(np.array(first.durations), one.durations) for first, one in zip(firsts, spoken, strict=True)]
        agreements.append(_equal(f"GAR durations, {name}", frames))
    return agreements


def _speak(
    ours: TrainedModel, model: ExportedModel, pairs: Sequence[tuple[Prompt, np.ndarray]], limits: PhoneLimits
) -> list[Any]:
    inventory = model.frontend.phones
    stretches = [free_stretch(prompt, phones, limits, inventory, FRAME_RATE, 0) for prompt, phones in pairs]
    most = most_frames(limits, FRAME_RATE)
    shapes = [shape_of(stretch, model.layout, FRAME_RATE, most) for stretch in stretches]
    shape = GarShape(*map(max, zip(*shapes, strict=True)))
    sampling = SamplingConfig(temperature=0.0)
    return decode_stretches(ours, model.layout, len(inventory), stretches, shape, sampling, len(stretches))


def _verify_nar(
    modeling: ModuleType, folder: Path, ours: TrainedModel, model: ExportedModel, utterances: Sequence[Prompt]
) -> list[Agreement]:
    import torch

    theirs = modeling.load_nar(folder, dtype=torch.float32)
    given = [_theirs(modeling, one) for one in utterances]
    prompts = [len(one.codes_Tx8) // 3 for one in utterances]
    score = jax.jit(_stage_logits(ours.definition))
    agreements = []
    for stage in range(2, NUM_LAYERS + 1):
        inputs, segments, own = theirs.batch(given, prompts, [stage] * len(given))
        with torch.inference_mode():
            found = theirs.logits(theirs(inputs, segments), stage).numpy()
        arrays = _nar_rows(utterances, prompts, stage, found.shape[1])
        expected = np.asarray(score(ours.params, arrays, np.int32(stage)))
        what = f"NAR logits of layer {stage}, teacher forced"
        agreements.append(_closest(what, found, expected, own.numpy(), ("utterance", "position", "code")))

    behind = [utterances[(at + 1) % len(utterances)] for at in range(len(utterances))]
    unfilled = [
        Unfilled.behind(
            prompt,
            np.concatenate([prompt.phones_P, one.phones_P]),
            np.concatenate([prompt.durations_P, one.durations_P]),
            one.codes_Tx8[:, 0],
        )
        for prompt, one in zip(utterances, behind, strict=True)
    ]
    filled = fill_batch(ours, unfilled, len(unfilled))
    asked = [
        (
            prompt,
            one.phones_P.tolist(),
            modeling.FirstLayer(torch.from_numpy(one.codes_Tx8[:, 0]).long(), whole.durations_N.tolist(), True),
        )
        for prompt, one, whole in zip(given, behind, unfilled, strict=True)
    ]
    for name, codes in (
        ("in one batch", theirs.fill(*map(list, zip(*asked, strict=True)))),
        ("one by one", [theirs.fill([prompt], [phones], [first])[0] for prompt, phones, first in asked]),
    ):
        both = [
            (found.numpy(), expected[len(prompt.codes_Tx8) :])
            for found, expected, prompt in zip(codes, filled, utterances, strict=True)
        ]
        agreements.append(_equal(f"NAR codes of layers 2 to 8, {name}", both))
    return agreements


def _stage_logits(definition: ModelDefinition) -> Any:
    def logits(params: Any, arrays: Mapping[str, jax.Array], stage: jax.Array) -> jax.Array:
        model = definition.merge(params)
        return model.logits(model(NarInputs(**arrays)), stage)

    return logits


def _nar_rows(utterances: Sequence[Prompt], prompts: Sequence[int], stage: int, length: int) -> dict[str, np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    for at, one in enumerate(utterances):
        segment = nar_segment(one.phones_P, one.durations_P, one.codes_Tx8, prompts[at], stage)
        used = len(segment["phones"])
        segment |= {"segment_ids": np.ones(used, np.int32), "positions": np.arange(used, dtype=np.int32)}
        for name, array in segment.items():
            shape = (len(utterances), length, *array.shape[1:])
            rows.setdefault(name, np.zeros(shape, array.dtype))[at, :used] = array
    return rows | {"stage": np.full_like(rows["stage"], stage)}


def _verify_codec(
    modeling: ModuleType, folder: Path, weights: CodecWeights, utterances: Sequence[Prompt]
) -> list[Agreement]:
    import torch

    ours, theirs = Codec(weights), modeling.load_codec(folder)
    codes = [one.codes_Tx8 for one in utterances]
    waves = ours.decode_batch(codes)
    found = [theirs.decode(torch.from_numpy(one).long()).numpy() for one in codes]
    away = [np.abs(a - b) for a, b in zip(found, waves, strict=True)]
    worst = int(np.argmax([one.max() for one in away]))
    largest, at = float(away[worst].max()), int(away[worst].argmax())
    decoded = _judged("codec waveforms", largest, f"utterance {worst}, sample {at}")
    again = [theirs.encode(torch.from_numpy(wave)).numpy() for wave in waves]
    equal = np.concatenate(again) == np.concatenate(ours.encode_batch(waves))
    share = float(equal.mean())
    problem = None if share >= CODES_EQUAL else f"{share:.2%} of the codes are equal, expected {CODES_EQUAL:.1%}"
    where = "all equal" if equal.all() else f"first at frame {int(np.argmin(equal.all(1)))} of all utterances in a row"
    return [decoded, Agreement(f"codec codes, {share:.3%} equal", 1 - share, where, problem)]


def _theirs(modeling: ModuleType, one: Prompt) -> Any:
    import torch

    return modeling.Utterance(one.phones_P.tolist(), one.durations_P.tolist(), torch.from_numpy(one.codes_Tx8))


def _closest(what: str, found: np.ndarray, expected: np.ndarray, real: np.ndarray, axes: tuple[str, ...]) -> Agreement:
    away = np.where(real[..., None], np.abs(found - expected), 0)
    place = np.unravel_index(int(away.argmax()), away.shape)
    return _judged(what, float(away[place]), ", ".join(f"{axis} {at}" for axis, at in zip(axes, place, strict=True)))


def _judged(what: str, largest: float, where: str) -> Agreement:
    # A comparison with NaN is never true.
    close = largest <= TOLERANCE
    return Agreement(
        what, largest, where, None if close else f"differ by {largest:.2g} ({where}), expected at most {TOLERANCE:g}"
    )


def _equal(what: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Agreement:
    """Integers of each utterance, frames on the first axis."""
    total = sum(len(expected) for _, expected in pairs)
    for index, (found, expected) in enumerate(pairs):
        if found.shape != expected.shape or (found != expected).any():
            shared = min(len(found), len(expected))
            differ = (found[:shared] != expected[:shared]).reshape(shared, -1).any(1)
            at = int(np.argmax(np.append(differ, True)))
            where = f"utterance {index}, entry {at} of {len(expected)}"
            return Agreement(what, 1.0, where, f"differ first in {where} ({len(found)} in PyTorch)")
    return Agreement(f"{what}, {total}", 0.0, "all equal")
