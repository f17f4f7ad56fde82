"""Text and a voice prompt → a waveform: phones, GAR, NAR, codec."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ellav_jax.codec.codec import Codec
from ellav_jax.errors import InputError
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.durations import frame_durations, trim_edges
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.inventory import SIL
from ellav_jax.hybrid_sequence import LayoutConfig, decoding_prefix, restore_durations
from ellav_jax.models.definition import ModelDefinition, Params
from ellav_jax.models.nar import NUM_LAYERS, NarInputs, nar_segment
from ellav_jax.resampling import resample
from ellav_jax.synthesis.decode import GarRequest, decode_gar, decode_nar
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.vocabulary import PAD, Vocabulary

MIN_PROMPT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class PhoneLimits:
    """Least and most time of each phone that is spoken. A cap exists in reproductions of the paper; its value is unknown."""

    min_frames: int = 1
    max_phone_seconds: float = 0.4
    max_silence_seconds: float = 0.8

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise InputError(f"min_frames must be 1 or more (no phone is left out), got {self.min_frames}")
        for name in ("max_phone_seconds", "max_silence_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a number of seconds above 0, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model with its parameters."""

    definition: ModelDefinition
    params: Params


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """A voice: phone ids [P], durations [P] and codes [T, 8] of a recording."""

    phones_P: np.ndarray
    durations_P: np.ndarray
    codes_Tx8: np.ndarray

    def durations_behind(self, durations: np.ndarray) -> np.ndarray:
        """Durations [P + N] of the prompt's phones and those behind them → the latter's [N], in frames behind the prompt."""
        ends = np.maximum(np.cumsum(durations)[len(self.phones_P) :] - len(self.codes_Tx8), 0)
        return np.diff(ends, prepend=0)


@dataclasses.dataclass(frozen=True, eq=False)
class FirstLayer:
    """What a GAR said behind a prompt: codes_T of layer 1, and the durations [P + N] of the prompt's phones and those said.

    calls, finished: as in `Speech`.
    """

    codes_T: np.ndarray
    durations: np.ndarray
    calls: int
    finished: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """What was spoken: waveform float32 [S] at the codec's rate, codes [T, 8], phone names and their frames (summing to T).

    calls: GAR calls. finished: whether the GAR ended by itself, before the limit on frames.
    """

    waveform_S: np.ndarray
    codes_Tx8: np.ndarray
    phones: tuple[str, ...]
    durations_N: np.ndarray
    calls: int
    finished: bool


class Synthesizer:
    """Holds the models on the device; shapes are rounded up, so that one compilation serves a range of lengths.

    layout: that of the GAR. dictionary: the frontend's dictionary file, where it is not the aligner's own; InputError is
    raised when it is another one.
    """

    def __init__(
        self,
        gar: TrainedModel,
        nar: TrainedModel,
        layout: LayoutConfig,
        frontend: Frontend,
        codec: Codec,
        limits: PhoneLimits = PhoneLimits(),
        dictionary: Path | None = None,
    ):
        self.gar, self.nar, self.layout, self.frontend, self.codec = gar, nar, layout, frontend, codec
        self.limits = limits
        self.analyzer = TextAnalyzer(frontend, dictionary)

    @functools.cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self.frontend, self.analyzer)

    def prompt(
        self,
        waveform_S: np.ndarray,
        sample_rate: int,
        text: str,
        intervals: Sequence[PhoneInterval] | None = None,
    ) -> Prompt:
        """Aligns and encodes a recording (float32, mono) of `text`; `intervals` are its alignment where there is one.

        Raises InputError when it is shorter than half a second, does not match its text, or when no intervals are given
        and the frontend's alignments come from TextGrids.
        """
        if len(waveform_S) < MIN_PROMPT_SECONDS * sample_rate:
            raise InputError(
                f"the prompt lasts {len(waveform_S) / sample_rate:.2f} s, expected at least {MIN_PROMPT_SECONDS} s; "
                "about 3 s are best"
            )
        if intervals is None:
            intervals = self._aligner.align(waveform_S, sample_rate, text)
        waveform_S, intervals = trim_edges(waveform_S, sample_rate, intervals, self.frontend)
        codes_Tx8 = self.codec.encode(resample(waveform_S, sample_rate, self.codec.sample_rate))
        phones, durations_P = frame_durations(intervals, len(codes_Tx8), self.frontend)
        return Prompt(self._ids(phones), durations_P, codes_Tx8)

    def speak(self, prompt: Prompt, text: str, sampling: SamplingConfig = SamplingConfig()) -> Speech:
        """Speaks `text` in the prompt's voice. Raises InputError for text without words."""
        return self.speak_phones(prompt, self.analyzer.phones(text), sampling)

    def speak_phones(self, prompt: Prompt, phones: list[str], sampling: SamplingConfig = SamplingConfig()) -> Speech:
        """Speaks phones by name. The silence that begins them is dropped where the prompt ends with one."""
        if self.frontend.phones[prompt.phones_P[-1]] == SIL and phones[0] == SIL and len(phones) > 1:
            phones = phones[1:]
        phones_N = self._ids(phones)
        inventory = self.frontend.phones
        first = speak_layer_1(
            self.gar, self.layout, inventory, self.codec.frame_rate, prompt, phones_N, self.limits, sampling
        )
        all_phones = np.concatenate([prompt.phones_P, phones_N])
        codes_Tx8 = fill_layers(self.nar, prompt, all_phones, first.durations, first.codes_T)
        given = len(prompt.codes_Tx8)
        waveform_S = self.codec.decode(codes_Tx8)[given * self.codec.hop :]
        durations_N = prompt.durations_behind(first.durations)
        return Speech(waveform_S, codes_Tx8[given:], tuple(phones), durations_N, first.calls, first.finished)

    def _ids(self, phones: list[str]) -> np.ndarray:
        return np.array([self.frontend.phones.index(phone) for phone in phones], np.int32)


def speak_layer_1(
    gar: TrainedModel,
    layout: LayoutConfig,
    inventory: Sequence[str],
    frame_rate: int,
    prompt: Prompt,
    phones_N: np.ndarray,
    limits: PhoneLimits,
    sampling: SamplingConfig,
) -> FirstLayer:
    """Decodes layer 1 of phones [N] (ids in `inventory`) behind a prompt, with the GAR whose layout is `layout`."""
    vocabulary = Vocabulary(len(inventory))
    prefix, advanced = decoding_prefix(
        prompt.phones_P, prompt.durations_P, prompt.codes_Tx8[:, 0], phones_N, layout, vocabulary
    )
    caps = [
        round(frame_rate * (limits.max_silence_seconds if inventory[phone] == SIL else limits.max_phone_seconds))
        for phone in phones_N
    ]
    # VALL-E's AR has no phones to feed: one stretch of speech, which EOS ends.
    fed, caps = (phones_N, caps) if layout.interleaved else (phones_N[:1], [sum(caps)])
    floors = np.full(len(fed), limits.min_frames)
    caps = np.maximum(caps, floors)
    # In the sequence the last phone has its frames and those by which the one before it ended early.
    floors[-1] += layout.local_advance
    caps[-1] += layout.local_advance
    room = round_up(len(fed), 32)
    # Twice the length that speech of so many phones has (12 a second): droning is cut off, not waited for.
    max_frames = round_up(2 * frame_rate * len(phones_N) // 12 + frame_rate, 256)

    def row(values: np.ndarray | list[int], size: int, fill: int) -> np.ndarray:
        return np.pad(np.asarray(values, np.int32), (0, size - len(values)), constant_values=fill)[None]

    result = jax.device_get(
        decode_gar(
            gar.definition,
            gar.params,
            GarRequest(
                prefix_BxS=row(prefix, round_up(len(prefix), 256), PAD),
                prefix_length_B=np.array([len(prefix)], np.int32),
                phones_BxN=row(vocabulary.phone_tokens(fed), room, PAD),
                num_phones_B=np.array([len(fed)], np.int32),
                floor_BxN=row(floors, room, 1),
                cap_BxN=row(caps, room, 1),
                started_B=advanced[-1:],
                keys_B=jax.random.key(sampling.seed)[None],
                temperature=np.float32(sampling.temperature),
                top_p=np.float32(sampling.top_p),
            ),
            eop_input=layout.eop_input,
            max_frames=max_frames,
        )
    )
    codes_T = result.codes_BxF[0, : result.num_frames_B[0]]
    spoken = result.durations_BxN[0, : len(fed)]
    if not layout.interleaved:
        advanced = np.append(prompt.durations_P, 0)
        spoken = np.diff(np.arange(len(phones_N) + 1) * len(codes_T) // len(phones_N))
    durations = restore_durations(np.concatenate([advanced[:-1], spoken]), layout.local_advance)
    return FirstLayer(codes_T, durations, int(result.calls), bool(result.finished_B[0]))


def fill_layers(
    nar: TrainedModel, prompt: Prompt, phones: np.ndarray, durations: np.ndarray, codes_T: np.ndarray
) -> np.ndarray:
    """Layer 1 behind a prompt → codes int32 [T, 8] of both. phones, durations: those of both, [P + N]."""
    n, given = len(phones), len(prompt.codes_Tx8)
    length = n + given + len(codes_T)
    codes_Tx8 = np.zeros((given + len(codes_T), NUM_LAYERS), np.int32)
    codes_Tx8[:given] = prompt.codes_Tx8
    codes_Tx8[given:, 0] = codes_T
    arrays = nar_segment(phones, durations, codes_Tx8, given, stage=2)
    arrays |= {"segment_ids": np.ones(length, np.int32), "positions": np.arange(length, dtype=np.int32)}
    room = round_up(length, 256) - length
    # Padding of zeros: segment id 0, no frames, nothing known.
    inputs = NarInputs(
        **{name: np.pad(array, ((0, room),) + ((0, 0),) * (array.ndim - 1)) for name, array in arrays.items()}
    )
    codes_BxLx8 = decode_nar(nar.definition, nar.params, jax.tree.map(lambda a: jnp.asarray(a)[None], inputs))
    return np.asarray(codes_BxLx8[0, n:length])


def round_up(number: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `number`."""
    return -(-number // multiple) * multiple
