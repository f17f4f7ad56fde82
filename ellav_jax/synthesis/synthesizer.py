"""Text and a voice prompt → a waveform: phones, GAR, NAR, codec."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from ellav_jax.codec.codec import Codec
from ellav_jax.errors import InputError
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.inventory import SIL
from ellav_jax.frontend.word_spans import PhonedText
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.synthesis.batches import in_batches, in_order
from ellav_jax.synthesis.control import Control, make_plan
from ellav_jax.synthesis.durations import at_speed
from ellav_jax.synthesis.edited_speech import carry_out
from ellav_jax.synthesis.editing import plan_edit, words_asked
from ellav_jax.synthesis.engine import Engine
from ellav_jax.synthesis.first_layer import FirstLayer, Stretch
from ellav_jax.synthesis.limits import NO_CAP, PhoneLimits
from ellav_jax.synthesis.other_layers import Unfilled
from ellav_jax.synthesis.placement import Placement
from ellav_jax.synthesis.prompts import Prompt, make_prompt
from ellav_jax.synthesis.request import SpeechRequest
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.sentences import fitting_parts, split_sentences
from ellav_jax.synthesis.shapes import PHONES_A_SECOND
from ellav_jax.synthesis.speech import Speech
from ellav_jax.synthesis.trained_model import TrainedModel

NO_PHONES = PhonedText(())
LONGEST_SECONDS = 15.0
"""Of what `sentences` makes: models rarely learn from longer utterances."""


class Synthesizer:
    """Holds the models on the device; shapes are rounded up, so that one compilation serves a range of lengths.

    layout: that of the GAR. dictionary: the frontend's dictionary file, where it is not the aligner's own; InputError is
    raised when it is another one. mesh: over which the rows of batches and the models lie, for speech in bulk; by default
    one device.
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
        mesh: Mesh | None = None,
    ):
        placement = Placement(mesh)
        self.engine = Engine(placement.model(gar), placement.model(nar), layout, frontend, codec, limits, placement)
        self.gar, self.nar, self.layout = self.engine.gar, self.engine.nar, layout
        self.frontend, self.codec = frontend, codec
        self.analyzer = TextAnalyzer(frontend, dictionary)

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
        return make_prompt(waveform_S, sample_rate, text, intervals, self.frontend, self.analyzer, self.codec)

    def request(
        self, prompt: Prompt, text: str = "", control: Control = Control(), seed: int | None = None
    ) -> SpeechRequest:
        """A sentence for `speak_batch`: `text`, or the control's own phones, with what the control asks for.

        Raises InputError for text without words, and for what is asked of phones and words that aren't there.
        """
        plan = make_plan(control, self._phoned(prompt, text) if control.phones is None else NO_PHONES, self.frontend)
        return SpeechRequest(prompt, plan.phoned.phones, plan.phoned.words, plan.floors, plan.caps, control.speed, seed)

    def _phoned(self, prompt: Prompt, text: str) -> PhonedText:
        phoned = self.analyzer.phoned(text)
        return phoned.without_first() if self._silent_twice(prompt, phoned.phones) else phoned

    def speak(
        self,
        prompt: Prompt,
        text: str,
        sampling: SamplingConfig = SamplingConfig(),
        control: Control = Control(),
    ) -> Speech:
        """Speaks `text` in the prompt's voice, with what is asked of its phones. Raises InputError as `request` does."""
        return self._speak_one(self.request(prompt, text, control), sampling)

    def speak_phones(
        self, prompt: Prompt, phones: Sequence[str], sampling: SamplingConfig = SamplingConfig()
    ) -> Speech:
        """Speaks phones by name. The silence that begins them is dropped where the prompt ends with one."""
        return self._speak_one(SpeechRequest(prompt, phones), sampling)

    def _speak_one(self, request: SpeechRequest, sampling: SamplingConfig) -> Speech:
        return next(self.speak_batch([request], sampling, self.engine.placement.multiple))

    def speak_batch(
        self, requests: Sequence[SpeechRequest], sampling: SamplingConfig = SamplingConfig(), batch_size: int = 8
    ) -> Iterator[Speech]:
        """Speaks many sentences, batch_size at a time, and gives them in their order, each as soon as it is done.

        Sentences of one padded shape share a batch, whose missing rows are empty; a row's tokens depend on its own seed
        and not on its neighbours. The silence that begins a sentence is dropped where its prompt ends with one.
        Raises InputError, before anything is spoken, for what can't be met: a batch_size that the mesh does not divide,
        phones out of the inventory, durations asked of VALL-E's AR.
        """
        rows = self.engine.placement.multiple
        if batch_size < 1 or batch_size % rows:
            raise InputError(f"batch_size {batch_size}: expected a multiple of {rows}, over which the rows are split")
        requests = [self._trimmed(request) for request in requests]
        stretches = [self.engine.stretch(request, sampling.seed) for request in requests]
        shapes = [self.engine.shape(one) for one in stretches]

        def results() -> Iterator[tuple[int, Speech]]:
            for places in in_batches(shapes, batch_size):
                jobs = [(requests[place], stretches[place]) for place in places]
                yield from zip(places, self._speak(jobs, sampling, batch_size), strict=True)

        return in_order(results())

    def sentences(self, text: str) -> list[str]:
        """A text in parts to be spoken one by one: its sentences, and parts of those that are longer than 15 s or so.

        Raises InputError for text without words.
        """
        sentences = split_sentences(text, self.frontend.g2p_language)
        parts = [part for sentence in sentences for part in fitting_parts(sentence, self.fits)]
        if not parts:
            raise InputError(f"the text {text[:40]!r} has no words to speak; expected at least one")
        return parts

    def fits(self, text: str) -> bool:
        """Whether a text is short enough to be spoken in one go. Raises InputError where it can't be spoken."""
        return len(self.analyzer.phones(text)) <= LONGEST_SECONDS * PHONES_A_SECOND

    def warm_up(
        self,
        prompt: Prompt,
        max_seconds: float = 20.0,
        batch_size: int = 1,
        sampling: SamplingConfig = SamplingConfig(),
    ) -> None:
        """Compiles what sentences up to max_seconds (at 12 phones a second) need behind this prompt or one of its length.

        After it, `speak` (with batch_size 1) and `speak_batch` compile nothing for them, whatever their phones last.
        """
        self.engine.warm_up(prompt, max_seconds, batch_size, sampling)

    def edit(
        self,
        recording: Prompt,
        text: str,
        sampling: SamplingConfig = SamplingConfig(),
        control: Control = Control(),
    ) -> Speech:
        """The recording, saying `text`: words that differ are spoken anew, all other frames keep their 8 codes.

        Words that the control names are spoken anew too. → the whole, decoded from its codes.
        Raises InputError when the recording's words are not known, VALL-E's AR is to do it, none or all of the words
        differ, or the control asks for more than words; RunError when the GAR does not end a stretch.
        """
        if not self.layout.interleaved:
            raise InputError("VALL-E's AR can't edit: it knows of no end but that of the whole; take a GAR")
        if not recording.words:
            raise InputError("which phones are which word's is not known of this recording; give the text that it says")
        phoned = self.analyzer.phoned(text)
        asked = words_asked(control, phoned)
        plan = make_plan(control, phoned, self.frontend)
        names = [self.frontend.phones[phone] for phone in recording.phones_P]
        edit = plan_edit(names, recording.words, plan, asked)
        return carry_out(self.engine, recording, edit, plan, sampling)

    def _speak(
        self, jobs: Sequence[tuple[SpeechRequest, Stretch]], sampling: SamplingConfig, batch_size: int
    ) -> list[Speech]:
        """One batch, whose stretches have one shape."""
        firsts = self.engine.decode([stretch for _, stretch in jobs], sampling, batch_size)
        again = [row for row, (request, _) in enumerate(jobs) if request.speed != 1 and firsts[row].finished]
        if again:
            paced = [_at_speed(*jobs[row], firsts[row]) for row in again]
            for row, first in zip(again, self.engine.decode(paced, sampling, batch_size), strict=True):
                firsts[row] = dataclasses.replace(first, calls=first.calls + firsts[row].calls)
        unfilled = [
            Unfilled.behind(
                stretch.left, np.concatenate([stretch.left.phones_P, stretch.phones_N]), first.durations, first.codes_T
            )
            for (_, stretch), first in zip(jobs, firsts, strict=True)
        ]
        codes = self.engine.fill(unfilled, sampling, batch_size)
        waveforms = self.codec.decode_batch(codes)
        return [
            Speech(
                waveform_S[len(request.prompt.codes_Tx8) * self.codec.hop :],
                codes_Tx8[len(request.prompt.codes_Tx8) :],
                tuple(request.phones),
                request.prompt.durations_behind(first.durations),
                first.calls,
                first.finished,
                request.words,
            )
            for (request, _), first, codes_Tx8, waveform_S in zip(jobs, firsts, codes, waveforms, strict=True)
        ]

    def _trimmed(self, request: SpeechRequest) -> SpeechRequest:
        if request.controlled and not self.layout.interleaved:
            raise InputError(
                "durations, pauses and speed can't be asked of VALL-E's AR, which doesn't know where phones end; take a GAR"
            )
        return request.without_first() if self._silent_twice(request.prompt, request.phones) else request

    def _silent_twice(self, prompt: Prompt, phones: Sequence[str]) -> bool:
        """Whether the phones would begin with a silence behind the one that ends the prompt."""
        return phones[0] == SIL and len(phones) > 1 and self.frontend.phones[prompt.phones_P[-1]] == SIL


def _at_speed(request: SpeechRequest, stretch: Stretch, first: FirstLayer) -> Stretch:
    """The stretch with the durations of its first decoding at the request's speed."""
    durations_N = stretch.left.durations_behind(first.durations)
    free = [None] * len(durations_N)
    # The limits are there against droning: what is only slowed down may pass them.
    floors_N = np.array([1 if floor is None else floor for floor in request.floors or free])
    caps_N = np.array([NO_CAP if cap is None else cap for cap in request.caps or free])
    frames_N = at_speed(durations_N, request.speed, floors_N, caps_N, floors_N == caps_N)
    return dataclasses.replace(stretch, floors_N=frames_N, caps_N=frames_N)
