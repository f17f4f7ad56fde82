"""What speaking and editing share: requests → layer 1 → all layers, with the models on their devices."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ellav_jax.codec.codec import Codec
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.nar import NUM_LAYERS
from ellav_jax.synthesis.first_layer import FirstLayer, Stretch, decode_stretches, free_stretch, most_frames, shape_of
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.other_layers import Unfilled, fill_batch
from ellav_jax.synthesis.placement import Placement
from ellav_jax.synthesis.prompts import Prompt, phone_ids
from ellav_jax.synthesis.request import SpeechRequest
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.shapes import PHONE_ROOMS, PHONES_A_SECOND, GarShape, row_lengths
from ellav_jax.synthesis.trained_model import TrainedModel


@dataclasses.dataclass(frozen=True, eq=False)
class Engine:
    """Models, laid out on their devices; layout is that of the GAR."""

    gar: TrainedModel
    nar: TrainedModel
    layout: LayoutConfig
    frontend: Frontend
    codec: Codec
    limits: PhoneLimits
    placement: Placement

    def stretch(self, request: SpeechRequest, seed: int) -> Stretch:
        """The request's phones with their floors and caps: the limits, and above them what the request asks for."""
        phones_N = phone_ids(request.phones, self.frontend)
        seed = seed if request.seed is None else request.seed
        free = free_stretch(request.prompt, phones_N, self.limits, self.frontend.phones, self.codec.frame_rate, seed)
        floors_N, caps_N = free.floors_N.copy(), free.caps_N.copy()
        for index in range(len(phones_N)):
            floor, cap = (None if values is None else values[index] for values in (request.floors, request.caps))
            # A limit gives way to what is asked for on its other side.
            floors_N[index] = min(floors_N[index], cap or floors_N[index]) if floor is None else floor
            caps_N[index] = max(caps_N[index], floor or 0) if cap is None else cap
        return dataclasses.replace(free, floors_N=floors_N, caps_N=caps_N)

    def shape(self, stretch: Stretch) -> GarShape:
        """The shape that a stretch is decoded in. Raises InputError where it fits none."""
        return shape_of(stretch, self.layout, self.codec.frame_rate, most_frames(self.limits, self.codec.frame_rate))

    def decode(self, stretches: Sequence[Stretch], sampling: SamplingConfig, batch_size: int = 1) -> list[FirstLayer]:
        """Layer 1 of up to batch_size stretches, in one shape which has room for each of them."""
        shape = GarShape(*map(max, zip(*map(self.shape, stretches), strict=True)))
        return self._decode(stretches, shape, sampling, batch_size)

    def _decode(
        self, stretches: Sequence[Stretch], shape: GarShape, sampling: SamplingConfig, batch_size: int
    ) -> list[FirstLayer]:
        phones = len(self.frontend.phones)
        return decode_stretches(self.gar, self.layout, phones, stretches, shape, sampling, batch_size, self.placement)

    def fill(self, sentences: Sequence[Unfilled], sampling: SamplingConfig, batch_size: int = 1) -> list[np.ndarray]:
        """Codes [T, 8] of sentences, at most batch_size at a time."""
        return fill_batch(self.nar, sentences, batch_size, self.placement, sampling.nar_temperature)

    def warm_up(self, prompt: Prompt, max_seconds: float, batch_size: int, sampling: SamplingConfig) -> None:
        """Runs each program that sentences up to max_seconds need behind this prompt, on next to nothing."""
        most = round(max_seconds * PHONES_A_SECOND)
        shapes = sorted({self.shape(_short(prompt, count)) for count in (*PHONE_ROOMS, most) if count <= most})
        for shape in shapes:
            self._decode([_short(prompt, 1)], shape, sampling, batch_size)
        given, longest = len(prompt.phones_P) + len(prompt.codes_Tx8), shapes[-1]
        for length in row_lengths(given + 2, given + longest.phones + longest.frames):
            # A whole row of one phone more than the prompt has.
            frames = length - len(prompt.phones_P) - 1
            durations = np.append(prompt.durations_P, frames - len(prompt.codes_Tx8))
            codes = np.zeros(frames - len(prompt.codes_Tx8), np.int32)
            self.fill([Unfilled.behind(prompt, np.append(prompt.phones_P, 0), durations, codes)], sampling, batch_size)
        self.codec.decode(np.zeros((1, NUM_LAYERS), np.int32))


def _short(prompt: Prompt, count: int) -> Stretch:
    """So many phones of a frame each."""
    ones = np.ones(count, np.int64)
    return Stretch(prompt, np.zeros(count, np.int32), ones, ones)
