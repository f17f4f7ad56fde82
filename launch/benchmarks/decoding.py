"""One point of `ellav bench decode`, measured in the process that this is called in."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from configs.experiment import Experiment
from configs.trained import define_model
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import decoding_prefix
from ellav_jax.synthesis.decode import GarRequest, decode_gar
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.vocabulary import Vocabulary
from launch.benchmarks.points import with_transformer
from launch.benchmarks.process import Found, peak_bytes
from launch.benchmarks.record import Measure, Point, environment
from launch.benchmarks.statistics import median
from launch.benchmarks.timing import by_turns
from launch.xla_flags import set_flags

FRAME_RATE = 75
"""Of EnCodec at 24 kHz."""
NUM_PHONES = 40
"""Of the inventory."""
PROMPT_SECONDS = 3
PHONES_A_SECOND = 12
SHORTEST, LONGEST = 4, 9
"""Frames of a phone: 6.25 are the average at 12 phones and 75 frames a second."""


@dataclasses.dataclass(frozen=True)
class DecodeRequest:
    """A point: `batch` sentences of `seconds` each. label: what tells it from the sweep's other points."""

    name: str
    experiment: Experiment
    label: dict[str, Any]
    batch: int
    seconds: float
    repetitions: int
    against_torch: bool

    @property
    def title(self) -> str:
        """For people."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.label.items())])


def measure_decoding(request: DecodeRequest) -> Found:
    """Measures the point. Raises InputError where torch is asked for and missing."""
    set_flags()
    experiment, batch = request.experiment, request.batch
    changes = {"dropout": 0.0} | ({"dtype": "float32"} if request.against_torch else {})
    model = dataclasses.replace(with_transformer(experiment, **changes).model, codebook_init=False)
    experiment = dataclasses.replace(experiment, model=model)
    rng = np.random.default_rng(0)
    layout, vocabulary = experiment.layout, Vocabulary(NUM_PHONES)
    phones_N = rng.integers(0, NUM_PHONES, max(1, round(PHONES_A_SECOND * request.seconds)))
    durations_N = rng.integers(SHORTEST, LONGEST, len(phones_N))
    prompt_P = rng.integers(0, NUM_PHONES, PROMPT_SECONDS * PHONES_A_SECOND)
    frames = PROMPT_SECONDS * FRAME_RATE
    prompt_durations = np.diff(np.arange(len(prompt_P) + 1) * frames // len(prompt_P))
    prompt_codes = rng.integers(0, 1024, frames)
    prefix, _ = decoding_prefix(prompt_P, prompt_durations, prompt_codes, phones_N, layout, vocabulary)
    definition = define_model(experiment, NUM_PHONES)
    params = jax.jit(definition.init)(jax.random.key(0))
    said, given = (phones_N, durations_N) if layout.interleaved else (phones_N[:1], durations_N.sum(keepdims=True))
    given = given.astype(np.int32)
    given[-1] += layout.local_advance

    def repeated(row: np.ndarray) -> np.ndarray:
        return np.tile(row.astype(np.int32), (batch, 1))

    sentences = GarRequest(
        prefix_BxS=repeated(prefix),
        prefix_length_B=np.full(batch, len(prefix), np.int32),
        phones_BxN=repeated(vocabulary.phone_tokens(said)),
        num_phones_B=np.full(batch, len(said), np.int32),
        floor_BxN=repeated(given),
        cap_BxN=repeated(given),
        started_B=np.zeros(batch, np.int32),
        keys_B=jax.random.split(jax.random.key(0), batch),
        sampling=SamplingConfig(temperature=0.0).settings(),
    )
    most = int(given.sum()) + 1
    calls = 0

    def ours() -> np.ndarray:
        nonlocal calls
        result = decode_gar(definition, params, sentences, eop_input=layout.eop_input, max_frames=most)
        calls = int(result.calls_B.max())
        return np.asarray(result.codes_BxF[:, : most - 1])

    begin = time.perf_counter()
    codes = {"ours": ours()}
    first_seconds = time.perf_counter() - begin
    figures: dict[str, float | None] = {"peak_bytes": peak_bytes(jax.local_devices())}
    work: dict[str, Callable[[], np.ndarray]] = {"ours": ours}
    if request.against_torch:
        try:
            from launch.benchmarks.decode_twin import opponents
        except ModuleNotFoundError as error:
            raise InputError(
                f"bench decode --against torch wants {error.name}: pip install 'ellav-jax[torch]'"
            ) from None
        schedule = _schedule(vocabulary.phone_tokens(phones_N), durations_N)
        slots = len(prefix) + len(schedule) + 1
        work |= opponents(
            experiment.model.transformer,
            jax.device_get(params),
            NUM_PHONES,
            repeated(prefix),
            repeated(schedule),
            slots,
        )
        codes = {name: function() for name, function in work.items()}  # not counted: caches
    seconds = by_turns(work, request.repetitions)
    audio_seconds = float(durations_N.sum() / FRAME_RATE)
    amounts = {"calls": float(calls), "audio_seconds": batch * audio_seconds, "row_audio_seconds": audio_seconds}
    point = Point(
        settings={
            "experiment": request.name,
            **experiment.to_json(),
            "batch": batch,
            "seconds": request.seconds,
            "devices": 1,
        },
        label=request.label,
        measures={name: Measure([times], amounts, name == "ours") for name, times in seconds.items()},
        figures=figures | {"compile_seconds": first_seconds - median([seconds["ours"]])},
    )
    if request.against_torch:
        fastest = min((name for name in work if name != "ours"), key=lambda name: median([seconds[name]]))
        pairs = zip(seconds["ours"], seconds[fastest], strict=True)
        same = min(float(np.mean(codes["ours"] == found)) for name, found in codes.items() if name != "ours")
        point = dataclasses.replace(
            point,
            ratios={"audio-s/s over PyTorch's fastest": [[theirs / ours for ours, theirs in pairs]]},
            figures=point.figures | {"codes_equal": same},
            notes={"PyTorch's fastest": fastest},
        )
    packages = ["jax", "jaxlib", "flax", "numpy"] + ["torch", "transformers"] * request.against_torch
    return point, environment(packages, jax.devices())


def _schedule(tokens_N: np.ndarray, durations_N: np.ndarray) -> np.ndarray:
    """Token fed at each call behind the prefix, which ends with the first phone: −1 for the code chosen there."""
    parts = [np.append(np.full(frames, -1), token) for frames, token in zip(durations_N, tokens_N[1:], strict=False)]
    return np.concatenate([*parts, np.full(durations_N[-1], -1)])
