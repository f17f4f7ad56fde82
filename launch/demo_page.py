"""What the demo's page tells: speech, figures, and how they came about."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import jax

from configs.experiment import Experiment, from_json
from data_pipelines.corpora.utterance import Corpus, Utterance
from data_pipelines.records import Dataset, Record
from ellav_jax.errors import InputError
from ellav_jax.evaluation.figures import Curves, Spoken
from ellav_jax.evaluation.page import Clip, Page, Sentence
from ellav_jax.evaluation.teacher_forced import teacher_forced
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import Synthesizer
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.training.checkpoint import find_checkpoint, read_card
from ellav_jax.training.metrics import read_metrics
from launch.synthesize import load_synthesizer

PACKAGES = ("ellav-jax", "jax", "flax", "optax", "numpy", "pocketsphinx")


def describe_demo(
    out: Path,
    corpus: Corpus,
    dataset: Dataset,
    prompt: Utterance,
    sentences: Sequence[Utterance],
    sampling: SamplingConfig,
    seconds: Mapping[str, float],
) -> Page:
    """Speaks the sentences with the models of `out`, measures the GAR, and gathers the rest. seconds: those of each part.

    Raises InputError when one of the clips is not in the data set.
    """
    synthesizer = load_synthesizer(out / "gar", out / "nar")
    waveform_S, rate = prompt.audio.read()
    voice = synthesizer.prompt(waveform_S, rate, prompt.text)
    given = Clip("Prompt", f"held out, the voice to take: “{prompt.text}”", waveform_S, rate)
    records = _records(dataset, sentences)
    start = time.monotonic()
    spoken = [_speak(synthesizer, voice, given, one, records[one.id], sampling) for one in sentences]
    speaking = time.monotonic() - start
    held_out = {name: read_metrics(out / name / "metrics.jsonl", "held_out") for name in ("gar", "nar")}
    accuracy = {
        layer: run[-1][key]
        for run in held_out.values()
        for layer in range(1, 9)
        if (key := f"layer_{layer}_accuracy") in run[-1]
    }
    minutes = f"{60 * dataset.info['splits']['train']['hours']:.3g} minutes"
    lead = (
        f"Three sentences that the models have not seen, in the voice of a {given.seconds:.1f} s prompt that they have not "
        f"seen either. Both models are small and learned for minutes, from {minutes} of one speaker: the page shows that "
        "the whole way from recordings to a voice works, and how far it gets at that budget."
    )
    clip_seconds = sum(one.drawn[-1].seconds for one in spoken)
    return Page(
        title=f"ELLA-V after {minutes} of speech",
        lead=[lead],
        listening="Nothing that goes through the codec can sound better than its resynthesis of the real recording.",
        sentences=spoken,
        curves=[_curves(name.upper(), out / name / "metrics.jsonl") for name in ("gar", "nar")],
        accuracy_by_layer=accuracy,
        teacher_forced=teacher_forced(
            synthesizer.gar,
            synthesizer.layout,
            dataset.frontend.phones,
            dataset.records("train"),
            dataset.records("test"),
        ),
        made={
            "Models": _models(out, synthesizer, sampling),
            "Data": _data(dataset),
            "Time": {
                "Preparing the data set": _duration(seconds.get("data")),
                "Training the GAR": _duration(seconds.get("gar")),
                "Training the NAR": _duration(seconds.get("nar")),
                "Speaking, with compilation": f"{_duration(speaking)} for {clip_seconds:.1f} s of speech",
            },
            "Machine and versions": _machine(),
        },
        credit=f"Recordings: {corpus.attribution}; {corpus.licence}. What is heard here derives from them.",
    )


def _records(dataset: Dataset, utterances: Sequence[Utterance]) -> dict[str, Record]:
    ids, source = dataset.ids("test"), dataset.records("test")
    if missing := [one.id for one in utterances if one.id not in ids]:
        raise InputError(f"{dataset.path}: {', '.join(missing)} not in it; see {dataset.path / 'quarantine.jsonl'}")
    return {one.id: source[ids.index(one.id)] for one in utterances}


def _speak(
    synthesizer: Synthesizer,
    voice: Prompt,
    given: Clip,
    utterance: Utterance,
    record: Record,
    sampling: SamplingConfig,
) -> Sentence:
    codec = synthesizer.codec
    speech = synthesizer.speak(voice, utterance.text, sampling)
    decoded_S = codec.decode(record.codes_Tx8)
    original_S, rate = utterance.audio.read()
    phones = [synthesizer.frontend.phones[index] for index in record.phones_N]
    how = f"GAR and NAR, {speech.calls} GAR calls" + ("" if speech.finished else "; cut off at the limit on frames")
    return Sentence(
        id=utterance.id,
        text=utterance.text,
        clips=[
            given,
            Clip("Recording", f"the real one, held out, {rate / 1000:g} kHz", original_S, rate),
            Clip("Resynthesis", "the recording's codes, decoded: the upper bound", decoded_S, codec.sample_rate),
            Clip("Synthesis", how, speech.waveform_S, codec.sample_rate, emphasis=True),
        ],
        drawn=[
            Spoken("Resynthesis", decoded_S, codec.sample_rate, phones, record.durations_N, codec.frame_rate),
            Spoken(
                "Synthesis", speech.waveform_S, codec.sample_rate, speech.phones, speech.durations_N, codec.frame_rate
            ),
        ],
    )


def _curves(title: str, metrics: Path) -> Curves:
    train, held_out = (
        ([entry["step"] for entry in entries], [entry["loss"] for entry in entries])
        for entries in (read_metrics(metrics, "train"), read_metrics(metrics, "held_out"))
    )
    return Curves(title, train, held_out)


def _models(out: Path, synthesizer: Synthesizer, sampling: SamplingConfig) -> dict[str, str]:
    layout = synthesizer.layout
    return {
        "GAR": _model(out / "gar", synthesizer.gar),
        "NAR": _model(out / "nar", synthesizer.nar),
        "Sequence": f"{layout.order} layout, local advance of {layout.local_advance} frames",
        "Sampling": f"top-p {sampling.top_p:g}, temperature {sampling.temperature:g}, seed {sampling.seed}",
    }


def _model(workdir: Path, trained: TrainedModel) -> str:
    checkpoint = find_checkpoint(workdir)
    experiment: Experiment = from_json(read_card(checkpoint)["experiment"], str(checkpoint))
    size, data = experiment.model.transformer, experiment.data
    return (
        f"{trained.definition.num_parameters / 1e6:.1f} M parameters, {size.num_layers} layers of width {size.width}; "
        f"{checkpoint.name} steps of {data.batch_rows} × {data.row_length} positions, {size.dtype}"
    )


def _data(dataset: Dataset) -> dict[str, str]:
    codec, frontend = dataset.info["codec"], dataset.frontend
    splits = {
        name: f"{split['utterances']} utterances, {60 * split['hours']:.1f} min, {split['phones']:,} phones"
        for name, split in dataset.info["splits"].items()
    }
    return {
        **splits,
        "Codec": (
            f"{codec['name']} EnCodec, {codec['frame_rate']} frames/s × {codec['num_codebooks']} codes, "
            f"sha256 {codec['sha256'][:12]}…"
        ),
        "Phones": f"{len(frontend.phones)}, aligned by {frontend.aligner}",
    }


def _machine() -> dict[str, str]:
    device = jax.devices()[0]
    return {
        "Machine": f"{_processor()}, {os.cpu_count()} cores",
        "Device": f"{jax.device_count()} × {device.device_kind} ({device.platform})",
        "System": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "Packages": ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
    }


def _processor() -> str:
    """The processor's name: Linux keeps it in a file, elsewhere the platform module knows as much as there is to know."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not noted"  # a run that was killed notes nothing
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
