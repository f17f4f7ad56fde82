"""Speech of the model in training, every so many steps: what it learned, to be heard and seen while it learns."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import jax
import numpy as np
from jax.experimental import multihost_utils
from tyro.conf import arg

from configs.experiment import Experiment
from configs.trained import define_model, load_trained
from data_pipelines.audio import write_audio
from data_pipelines.records import Dataset, Record
from ellav_jax.codec import load_codec, load_codec_weights
from ellav_jax.codec.codec import Codec
from ellav_jax.codec.weights import codebook_name
from ellav_jax.errors import InputError
from ellav_jax.evaluation.figures import Spoken, require_matplotlib
from ellav_jax.evaluation.sample_picture import sample_picture
from ellav_jax.hybrid_sequence import durations_behind_sequence
from ellav_jax.models.definition import Params
from ellav_jax.models.nar import NUM_LAYERS
from ellav_jax.synthesis.first_layer import speak_layer_1
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.other_layers import fill_layers
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.training.sample import Sample
from launch.assemble import codec_of, held_out_split

if TYPE_CHECKING:
    from ellav_jax.codec.package_backend import PackageCodec

PROMPT_SECONDS, TARGET_SECONDS = 3.0, 6.0
"""The longest prompt, and how long the utterances taken are, about: both short, as every one is decoded again and again."""


@dataclasses.dataclass(frozen=True)
class SamplesConfig:
    """Speech of held-out utterances while the model trains; see `Samples`."""

    every: int = 0
    """Steps from one to the next; 0: none."""
    utterances: int = 2
    """How many each time."""
    nar: Annotated[Path | None, arg(metavar="W")] = None
    """Work directory or checkpoint of a NAR, which fills layers 2 to 8 of a GAR's samples. Without one they are heard from
    layer 1 alone: coarse, but words and timing can be told."""

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("utterances", 1)):
            if getattr(self, name) < least:
                raise InputError(f"samples.{name} must be {least} or more, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """A held-out utterance cut in two at a phone's boundary: the prompt, and the phones and codes behind it."""

    prompt: Prompt
    phones_N: np.ndarray
    durations_N: np.ndarray
    codes_Tx8: np.ndarray

    @classmethod
    def of(cls, record: Record, frame_rate: int) -> "Clip":
        """The prompt is at most half of the utterance and 3 s, but a phone at least."""
        phones_N, codes_Tx8 = record.phones_N.astype(np.int32), record.codes_Tx8.astype(np.int32)
        ends_N = np.cumsum(record.durations_N)
        limit = min(PROMPT_SECONDS * frame_rate, record.num_frames / 2)
        cut = max(1, int(np.sum(ends_N[:-1] <= limit)))
        frames = int(ends_N[cut - 1])
        prompt = Prompt(phones_N[:cut], record.durations_N[:cut], codes_Tx8[:frames])
        return cls(prompt, phones_N[cut:], record.durations_N[cut:], codes_Tx8[frames:])


class Samples:
    """Lets a model in training continue held-out utterances: from the first part of each, and the phones of the rest.

    A GAR speaks layer 1, sampled with one seed at every step; a NAR fills layers 2 to 8 of the utterance's own layer 1.
    Written are WORKDIR/samples/STEP-n.wav, what was said behind the prompt, and once reference-n.wav, the utterance's own
    codes decoded in the same way: the best that can be reached. All processes make one; process 0 speaks.
    """

    def __init__(
        self,
        config: SamplesConfig,
        experiment: Experiment,
        dataset: Dataset,
        workdir: Path,
        say: Callable[[str], None],
    ):
        """Raises InputError when the codec's weights or matplotlib are not at hand, the NAR is not of this data and
        layout, a NAR is given for a NAR, or no held-out utterance can be cut in two."""
        require_matplotlib()
        self.every = config.every
        self._experiment, self._say = experiment, say
        self._definition = define_model(experiment, len(dataset.frontend.phones))
        self._folder = workdir / "samples"
        self._phones, self._frame_rate = dataset.frontend.phones, dataset.info["codec"]["frame_rate"]
        self._clips = [Clip.of(record, self._frame_rate) for record in choose_records(dataset, config.utterances)]
        self._nar = None if config.nar is None else _load_nar(config.nar, experiment, dataset)
        coarse = experiment.kind == "gar" and self._nar is None
        self._codec = load_sample_codec(dataset, coarse=coarse)
        self._coarse = coarse
        self._references: dict[str, np.ndarray] = {}

    def speak(self, params: Params, step: int) -> list[Sample]:
        """Samples of the parameters, sharded as they may be; to be called by all processes. Empty but on process 0."""
        begin = time.perf_counter()
        whole = _on_first_device(params)
        if whole is None:
            return []
        gathered = time.perf_counter()
        model = TrainedModel(self._definition, whole)
        self._folder.mkdir(exist_ok=True)
        samples = [self._speak(model, clip, str(number), step) for number, clip in enumerate(self._clips)]
        how = "layer 1 alone, coarse" if self._coarse else "all 8 layers"
        self._say(
            f"step {step}  samples: {len(samples)} in {self._folder} ({how}), parameters gathered in "
            f"{gathered - begin:.1f} s, spoken in {time.perf_counter() - gathered:.1f} s"
        )
        return samples

    def _speak(self, model: TrainedModel, clip: Clip, name: str, step: int) -> Sample:
        codes_Tx8, durations, title = self._continue(model, clip)
        waveform_S, rate = self._behind_prompt(clip.prompt, codes_Tx8), self._codec.sample_rate
        write_audio(self._folder / f"{step}-{name}.wav", waveform_S, rate)
        if name not in self._references:
            reference_S = self._behind_prompt(clip.prompt, np.concatenate([clip.prompt.codes_Tx8, clip.codes_Tx8]))
            write_audio(self._folder / f"reference-{name}.wav", reference_S, rate)
            self._references[name] = reference_S
        phones = [self._phones[phone] for phone in clip.phones_N]
        said_N = clip.prompt.durations_behind(durations)
        picture_HxWx3 = sample_picture(
            Spoken("Reference", self._references[name], rate, phones, clip.durations_N, self._frame_rate),
            Spoken(f"Step {step}: {title}", waveform_S, rate, phones, said_N, self._frame_rate),
        )
        return Sample(name, waveform_S, rate, picture_HxWx3)

    def _continue(self, model: TrainedModel, clip: Clip) -> tuple[np.ndarray, np.ndarray, str]:
        """→ codes [T, 8] and durations [P + N] of prompt and continuation, and what made them, in words."""
        prompt, layout = clip.prompt, self._experiment.layout
        phones = np.concatenate([prompt.phones_P, clip.phones_N])
        if self._experiment.kind == "nar":
            true = np.concatenate([prompt.durations_P, clip.durations_N])
            durations = durations_behind_sequence(true, layout.local_advance)
            return fill_layers(model, prompt, phones, durations, clip.codes_Tx8[:, 0]), durations, "NAR, layer 1 given"
        first = speak_layer_1(
            model, layout, self._phones, self._frame_rate, prompt, clip.phones_N, PhoneLimits(), SamplingConfig()
        )
        title = "GAR" + ("" if first.finished else ", cut off at the limit on frames")
        if self._nar is None:
            codes_T = np.concatenate([prompt.codes_Tx8[:, 0], first.codes_T])
            # In the form that a codec wants; the coarse one hears nothing in the other layers.
            return np.pad(codes_T[:, None], ((0, 0), (0, NUM_LAYERS - 1))), first.durations, title
        return (
            fill_layers(self._nar, prompt, phones, first.durations, first.codes_T),
            first.durations,
            f"{title} and NAR",
        )

    def _behind_prompt(self, prompt: Prompt, codes_Tx8: np.ndarray) -> np.ndarray:
        """The decoder hears the prompt too, which sets its state."""
        return self._codec.decode(codes_Tx8)[len(prompt.codes_Tx8) * self._codec.hop :]


def make_samples(
    config: SamplesConfig,
    experiment: Experiment,
    datasets: Sequence[Dataset],
    workdir: Path,
    say: Callable[[str], None],
) -> Samples | None:
    """Samples of the first data set that has a held-out split; None where none are asked for. Raises InputError."""
    if not config.every:
        return None
    return Samples(config, experiment, next(one for one in datasets if held_out_split(one)), workdir, say)


def choose_records(dataset: Dataset, count: int) -> Sequence[Record]:
    """`count` held-out utterances (fewer where there are fewer): those next to 6 s long, always the same ones.

    Raises InputError when none has two phones.
    """
    split = held_out_split(dataset)
    phones_N, frames_N = dataset.lengths(split)
    distance_N = np.abs(frames_N - TARGET_SECONDS * dataset.info["codec"]["frame_rate"])
    order = np.argsort(distance_N, kind="stable")
    chosen = order[phones_N[order] > 1][:count]
    if not len(chosen):
        raise InputError(f"{dataset.path}, {split}: no utterance of two phones or more to speak samples of")
    return [dataset.records(split)[int(index)] for index in chosen]


def load_sample_codec(dataset: Dataset, *, coarse: bool) -> "Codec | PackageCodec":
    """The data set's codec; coarse: one that hears layer 1 alone, as the other layers' vectors are zero.

    Raises InputError when its weights aren't at hand, or are not those that the data was made with.
    """
    name, wanted = codec_of(dataset)["name"], codec_of(dataset)["sha256"]
    weights = load_codec_weights(name)
    if weights.sha256 != wanted:
        raise InputError(f"codec {name} has changed since {dataset.path} was prepared with it; prepare it again")
    if not coarse:
        return load_codec(name)
    others = {codebook_name(layer) for layer in range(1, NUM_LAYERS)}
    arrays = {name: np.zeros_like(array) if name in others else array for name, array in weights.arrays.items()}
    return Codec(dataclasses.replace(weights, arrays=arrays))


def _load_nar(path: Path, experiment: Experiment, dataset: Dataset) -> TrainedModel:
    if experiment.kind == "nar":
        raise InputError(f"--samples.nar {path}: this run trains a NAR, which speaks its own samples; leave it out")
    nar = load_trained(path, "nar")
    nar.frontend.check_same(dataset.frontend, f"--samples.nar {path} and {dataset.path}")
    if nar.codec["sha256"] != codec_of(dataset)["sha256"]:
        raise InputError(
            f"--samples.nar {path} knows codes of {nar.codec}, {dataset.path} holds those of {codec_of(dataset)}"
        )
    theirs, ours = nar.experiment.layout.local_advance, experiment.layout.local_advance
    if theirs != ours:
        raise InputError(
            f"--samples.nar {path} has a local advance of {theirs} frames, this run of {ours}; train both with one "
            "--layout.local-advance"
        )
    return nar.model


def _on_first_device(params: Params) -> Params | None:
    """The parameters whole on process 0's first device; None on the other processes. A collective."""
    if jax.process_count() > 1:
        params = multihost_utils.process_allgather(params, tiled=True)
    return jax.device_put(params, jax.local_devices()[0]) if jax.process_index() == 0 else None
