"""`ellav synthesize`: text in the voice of a prompt, or a recording edited."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from jax.sharding import Mesh
from tyro.conf import arg

from configs.trained import check_codec, check_together, load_trained
from data_pipelines.audio import read_audio
from ellav_jax.codec import load_codec
from ellav_jax.errors import InputError
from ellav_jax.frontend.textgrid import textgrid_intervals
from ellav_jax.sharding import MeshConfig, make_mesh
from ellav_jax.synthesis.control import Control
from ellav_jax.synthesis.control_file import read_control
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.prompt_cache import PromptCache, default_cache_folder
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import Synthesizer
from ellav_jax.training.compilation_cache import use_compilation_cache
from launch.speech_output import SpeechOutput, check_new_file, phone_table, read_text

MAX_PROMPT_SECONDS = 30.0
MAX_PAUSE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class SynthesizeArguments:
    """Speaks TEXT in the voice of a recording; or, with --edit, lets the recording itself say TEXT."""

    gar: Annotated[Path, arg(metavar="DIR")]
    """Work directory or checkpoint of a GAR (or of VALL-E's AR)."""
    nar: Annotated[Path, arg(metavar="DIR")]
    """Work directory or checkpoint of a NAR."""
    prompt: Annotated[Path, arg(metavar="WAV")]
    """Recording of the voice, about 3 s; any format that libsndfile reads."""
    out: Annotated[Path | None, arg(metavar="WAV")] = None
    """Where to write the speech: 24 kHz, 16 bits; whole, when all is spoken."""
    text: str | None = None
    """What to say; or else"""
    text_file: Annotated[Path | None, arg(metavar="FILE")] = None
    """a text in UTF-8, spoken sentence by sentence."""
    prompt_text: str | None = None
    """What is said in the prompt; or else"""
    prompt_textgrid: Annotated[Path | None, arg(metavar="FILE")] = None
    """the prompt's alignment, by the aligner that aligned the models' data."""
    edit: Annotated[bool, arg(name="edit")] = False
    """The recording of --prompt is changed: where TEXT has other words than --prompt-text these are spoken in its voice, and
    all other frames keep their codes. Silence beyond 0.15 s at its edges is cut off."""
    control: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """Durations of phones, pauses, pronunciations, speed: see docs/control.md."""
    speed: float = 1.0
    """Above 1 faster: spoken once, and again with its durations divided by it."""
    list_phones: bool = False
    """Print the phones of TEXT as the control file addresses them, with what it asks for, and speak nothing."""
    textgrid: Annotated[Path | None, arg(metavar="FILE")] = None
    """Where to write the words and phones of the speech with their times, for Praat."""
    stream: Annotated[Path | None, arg(metavar="DIR")] = None
    """A folder for each sentence of a text as soon as it is spoken: 0001.wav, 0002.wav, …"""
    sentence_pause: float = 0.2
    """Seconds of silence between the sentences of a text, beyond what they end with."""
    batch_size: int = 8
    """Sentences of a text that are spoken at a time."""
    codec: Annotated[str | None, arg(metavar="SPEC")] = None
    """The codec, as for `ellav prepare`; by default the one that the models' data was made with."""
    dictionary: Annotated[Path | None, arg(metavar="FILE")] = None
    """The pronouncing dictionary, if the models' data was prepared with one of its own."""
    prompt_cache: Annotated[Path | None, arg(metavar="DIR")] = None
    """Where prompts are kept, aligned and encoded; by default ellav_jax/prompts in $XDG_CACHE_HOME or ~/.cache."""
    sampling: Annotated[SamplingConfig, arg(name="")] = SamplingConfig()
    limits: Annotated[PhoneLimits, arg(name="")] = PhoneLimits()


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav synthesize`."""
    chosen = tyro.cli(SynthesizeArguments, args=arguments, prog="ellav synthesize")
    _check(chosen)
    text = chosen.text if chosen.text_file is None else read_text(chosen.text_file)
    waveform_S, rate = read_audio(chosen.prompt, max_seconds=MAX_PROMPT_SECONDS)
    synthesizer = load_synthesizer(chosen.gar, chosen.nar, chosen.codec, chosen.limits, chosen.dictionary)
    if chosen.textgrid is not None and not synthesizer.layout.interleaved:
        raise InputError(f"--textgrid {chosen.textgrid}: VALL-E's AR doesn't know when phones are spoken; take a GAR")
    use_compilation_cache(_warn)
    # The text first: a mistake in it should not wait for the prompt's alignment.
    control = _control(chosen, synthesizer)
    texts = _texts(chosen, text, control, synthesizer)
    intervals = None
    if chosen.prompt_textgrid is not None:
        intervals = textgrid_intervals(chosen.prompt_textgrid, len(waveform_S) / rate, synthesizer.frontend)
    cache = PromptCache(chosen.prompt_cache or default_cache_folder(), _warn)
    prompt = cache.prompt(synthesizer, waveform_S, rate, chosen.prompt_text or "", intervals)
    if chosen.edit:
        spoken = iter([synthesizer.edit(prompt, texts[0], chosen.sampling, control)])
    else:
        requests = [synthesizer.request(prompt, one, control) for one in texts]
        if chosen.list_phones:
            print(phone_table(requests[0], synthesizer.codec.frame_rate))
            return
        spoken = synthesizer.speak_batch(requests, chosen.sampling, min(chosen.batch_size, len(requests)))
    output = SpeechOutput(synthesizer.codec, chosen.stream, chosen.sentence_pause)
    for number, speech in enumerate(spoken, start=1):
        output.add(speech)
        if len(texts) > 1:
            seconds = len(speech.waveform_S) / synthesizer.codec.sample_rate
            print(f"{number}/{len(texts)}  {seconds:.2f} s  {texts[number - 1]}", flush=True)
    output.write(chosen.out, chosen.textgrid)
    print(output.describe(chosen.out))


def _check(chosen: SynthesizeArguments) -> None:
    """What can be told from the arguments alone. Raises InputError."""
    if chosen.out is None and not chosen.list_phones:
        raise InputError("expected --out WAV, the file to write the speech to")
    for name, path in (("--out", chosen.out), ("--textgrid", chosen.textgrid)):
        if path is not None:
            check_new_file(name, path)
    if chosen.stream is not None and chosen.stream.exists() and not chosen.stream.is_dir():
        raise InputError(f"--stream {chosen.stream}: a file is in the way; expected a folder, which may be new")
    if chosen.stream is not None and any(chosen.stream.glob("*.wav")):
        raise InputError(f"--stream {chosen.stream}: holds WAV files already; remove them, or name another folder")
    # An edit aligned by a TextGrid needs to know the words as well.
    both = chosen.edit and chosen.prompt_text is not None
    if (chosen.prompt_text is None) == (chosen.prompt_textgrid is None) and not both:
        raise InputError("expected either --prompt-text TEXT (what the prompt says) or --prompt-textgrid FILE")
    if chosen.edit and (chosen.text is None or chosen.prompt_text is None):
        raise InputError("--edit needs --prompt-text, what the recording says, and --text, what it is to say")
    if chosen.edit and (chosen.speed != 1 or chosen.list_phones):
        raise InputError("--edit goes without --speed and --list-phones")
    if chosen.batch_size < 1:
        raise InputError(f"--batch-size {chosen.batch_size}; expected 1 or more")
    if not 0 <= chosen.sentence_pause <= MAX_PAUSE_SECONDS:
        raise InputError(f"--sentence-pause {chosen.sentence_pause}; expected 0 to {MAX_PAUSE_SECONDS:g} seconds")


def _control(chosen: SynthesizeArguments, synthesizer: Synthesizer) -> Control:
    control = Control() if chosen.control is None else read_control(chosen.control, synthesizer.frontend)
    if chosen.speed == 1:
        return control
    if control.speed != 1:
        raise InputError(f"--speed {chosen.speed:g}, but {chosen.control} asks for a speed too; expected one of them")
    return dataclasses.replace(control, speed=chosen.speed)


def _texts(chosen: SynthesizeArguments, text: str | None, control: Control, synthesizer: Synthesizer) -> list[str]:
    """What is spoken in one go each. A sentence's phones are looked up here: a mistake in it ends the command at once."""
    given = [name for name in ("text", "text_file") if getattr(chosen, name) is not None]
    given += ["phones in --control"] if control.phones is not None else []
    if len(given) != 1:
        raise InputError(
            f"expected one of --text TEXT, --text-file FILE, or phones in --control; got {given or 'none'}"
        )
    if text is None:
        return [""]
    if chosen.edit or (chosen.text is not None and synthesizer.fits(text)):
        synthesizer.analyzer.phones(text)
        return [text]
    texts = synthesizer.sentences(text)
    if len(texts) > 1 and (control != Control(speed=control.speed, where=control.where) or chosen.list_phones):
        what = chosen.control or "--list-phones"
        raise InputError(
            f"{what} is about the phones of one sentence, but the text has {len(texts)}; speak that one alone"
        )
    return texts


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def load_synthesizer(
    gar_path: Path,
    nar_path: Path,
    codec_spec: str | None = None,
    limits: PhoneLimits = PhoneLimits(),
    dictionary: Path | None = None,
    mesh: Mesh | None = None,
) -> Synthesizer:
    """Loads both models and the codec. mesh: for speech in bulk. Raises InputError where the three do not go together."""
    gar, nar = load_trained(gar_path, "gar"), load_trained(nar_path, "nar")
    check_together(gar, nar)
    codec = load_codec(codec_spec or gar.codec["name"])
    for trained in (gar, nar):
        check_codec(trained, codec.name, codec.sha256)
    return Synthesizer(gar.model, nar.model, gar.experiment.layout, gar.frontend, codec, limits, dictionary, mesh)


def mesh_of_rows(batch_size: int) -> Mesh | None:
    """As many of the devices as divide a batch, for its rows; None for one."""
    devices = jax.devices()
    number = max(number for number in range(1, len(devices) + 1) if batch_size % number == 0)
    return None if number == 1 else make_mesh(MeshConfig(data=number), devices[:number])
