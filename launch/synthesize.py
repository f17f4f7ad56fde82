"""`ellav synthesize`: text in the voice of a prompt."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from configs.trained import Trained, load_trained
from data_pipelines.audio import read_audio, write_audio
from ellav_jax.codec import load_codec
from ellav_jax.errors import InputError
from ellav_jax.frontend.textgrid import textgrid_intervals
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import PhoneLimits, Speech, Synthesizer

MAX_PROMPT_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class SynthesizeArguments:
    """Speaks TEXT in the voice of a recording."""

    gar: Annotated[Path, arg(metavar="DIR")]
    """Work directory or checkpoint of a GAR (or of VALL-E's AR)."""
    nar: Annotated[Path, arg(metavar="DIR")]
    """Work directory or checkpoint of a NAR."""
    prompt: Annotated[Path, arg(metavar="WAV")]
    """Recording of the voice, about 3 s; any format that libsndfile reads."""
    text: str
    """What to say."""
    out: Annotated[Path, arg(metavar="WAV")]
    """Where to write the speech: 24 kHz, 16 bits."""
    prompt_text: str | None = None
    """What is said in the prompt; or else"""
    prompt_textgrid: Annotated[Path | None, arg(metavar="FILE")] = None
    """the prompt's alignment, by the aligner that aligned the models' data."""
    codec: Annotated[str | None, arg(metavar="SPEC")] = None
    """The codec, as for `ellav prepare`; by default the one that the models' data was made with."""
    dictionary: Annotated[Path | None, arg(metavar="FILE")] = None
    """The pronouncing dictionary, if the models' data was prepared with one of its own."""
    sampling: Annotated[SamplingConfig, arg(name="")] = SamplingConfig()
    limits: Annotated[PhoneLimits, arg(name="")] = PhoneLimits()


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav synthesize`."""
    chosen = tyro.cli(SynthesizeArguments, args=arguments, prog="ellav synthesize")
    if chosen.out.is_dir():
        raise InputError(f"{chosen.out}: is a folder; expected the name of a WAV file to write")
    if not chosen.out.parent.is_dir():
        raise InputError(f"{chosen.out}: no such folder {chosen.out.parent}")
    if (chosen.prompt_text is None) == (chosen.prompt_textgrid is None):
        raise InputError("expected either --prompt-text TEXT (what the prompt says) or --prompt-textgrid FILE")
    waveform, rate = read_audio(chosen.prompt, max_seconds=MAX_PROMPT_SECONDS)
    synthesizer = load_synthesizer(chosen.gar, chosen.nar, chosen.codec, chosen.limits, chosen.dictionary)
    # The text first: a mistake in it should not wait for the prompt's alignment.
    phones = synthesizer.analyzer.phones(chosen.text)
    intervals = None
    if chosen.prompt_textgrid is not None:
        intervals = textgrid_intervals(chosen.prompt_textgrid, len(waveform) / rate, synthesizer.frontend)
    prompt = synthesizer.prompt(waveform, rate, chosen.prompt_text or "", intervals)
    speech = synthesizer.speak_phones(prompt, phones, chosen.sampling)
    write_audio(chosen.out, speech.waveform_S, synthesizer.codec.sample_rate)
    print(describe(speech, synthesizer, chosen.out))


def load_synthesizer(
    gar_path: Path,
    nar_path: Path,
    codec_spec: str | None = None,
    limits: PhoneLimits = PhoneLimits(),
    dictionary: Path | None = None,
) -> Synthesizer:
    """Loads both models and the codec. Raises InputError where the three do not go together."""
    gar, nar = load_trained(gar_path, "gar"), load_trained(nar_path, "nar")
    gar.frontend.check_same(nar.frontend, f"{nar.path} (beside {gar.path})")
    if gar.experiment.layout.local_advance != nar.experiment.layout.local_advance:
        raise InputError(
            f"{gar.path} has a local advance of {gar.experiment.layout.local_advance} frames, {nar.path} of "
            f"{nar.experiment.layout.local_advance}; train both with one --layout.local-advance"
        )
    codec = load_codec(codec_spec or gar.codec["name"])
    for trained in (gar, nar):
        _check_codec(trained, codec.name, codec.sha256)
    return Synthesizer(gar.model, nar.model, gar.experiment.layout, gar.frontend, codec, limits, dictionary)


def _check_codec(trained: Trained, name: str, sha256: str) -> None:
    if trained.codec["sha256"] != sha256:
        raise InputError(
            f"{trained.path} knows the codes of codec {trained.codec['name']} (sha256 {trained.codec['sha256'][:12]}…), "
            f"not those of {name} ({sha256[:12]}…); give that one with --codec"
        )


def describe(speech: Speech, synthesizer: Synthesizer, out: Path) -> str:
    """One line on what was spoken, and one more where it did not end by itself."""
    seconds = len(speech.waveform_S) / synthesizer.codec.sample_rate
    line = f"{out}: {seconds:.2f} s, {len(speech.phones)} phones, {speech.calls} GAR calls"
    if not speech.finished:
        line += "\nthe GAR did not end by itself: cut off at the limit on frames"
    return line
