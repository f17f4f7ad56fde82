"""`ellav evaluate`: what trained models say, judged, beside ground truth and the codec's resynthesis, as a report."""

import dataclasses
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import jax
import soundfile
import tyro
from tyro.conf import UseAppendAction, arg

from configs.experiment import differences
from configs.trained import TrainedCard, read_trained
from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.evaluation.metric import Metric
from ellav_jax.evaluation.protocols import MAX_SECONDS, MIN_SECONDS, PROMPT_SECONDS, ProtocolName
from ellav_jax.evaluation.stability import LONGEST_SECONDS, infinite_frames
from ellav_jax.files import read_json, take_lock, write_json
from ellav_jax.frontend.durations import FRAME_RATE
from ellav_jax.sharding import MeshConfig
from ellav_jax.synthesis.limits import PhoneLimits
from ellav_jax.synthesis.prompt_cache import PromptCache, default_cache_folder
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.synthesizer import Synthesizer
from ellav_jax.training.compilation_cache import use_compilation_cache
from launch.assemble import codec_of, say
from launch.cpu_devices import use_cores
from launch.evaluation.metrics import INSTALLED, choose_metrics
from launch.evaluation.report import Evaluation, write_report
from launch.evaluation.rows import Row, System, fill_recordings, speak, speak_uncapped, write_prompts, write_recordings
from launch.evaluation.targets import Work, data_set_work, sentence_work
from launch.synthesize import load_synthesizer, mesh_of_rows

FORMAT = "ellav-jax evaluation"
SWEPT = ("top_p", "temperature")
IDENTITY = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Lets models speak a data set's test split (--data) or a list of sentences (--sentences, --prompts), and judges them.

    Writes OUT/report.html, report.json and report.csv. The same command continues where it was stopped. Other recognisers
    and metrics may be given to an OUT that is there: nothing is spoken again, and only what is new is measured.
    """

    gar: Annotated[tuple[Path, ...], arg(metavar="DIR"), UseAppendAction]
    """Work directory or checkpoint of a GAR (or of VALL-E's AR); give it again for another row of the table."""
    nar: Annotated[tuple[Path, ...], arg(metavar="DIR"), UseAppendAction]
    """Work directory or checkpoint of a NAR: one for all, or one for each --gar."""
    out: Annotated[Path, arg(metavar="OUT")]
    """Folder of the evaluation: new, or one to continue."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Prepared data set whose --split is spoken; or else"""
    sentences: Annotated[str | None, arg(metavar="FILE")] = None
    """a file with one sentence a line, or `hard`: the 100 hard sentences that come with ellav."""
    prompts: Annotated[str | None, arg(metavar="DIR")] = None
    """For --sentences: folder of recordings beside transcripts (a.wav, a.txt), or a corpus whose test split is taken
    (`bundled`)."""
    split: str = "test"
    corpus: Annotated[str | None, arg(metavar="CORPUS")] = None
    """Where the data set's recordings are, as `ellav prepare` was told; the bundled ones are found by themselves."""
    protocol: ProtocolName = "continuation"
    """continuation: the first 3 s of the utterance are the prompt, and judged is the prompt with what follows.
    cross-sentence: the prompt is the first 3 s of another utterance of the speaker."""
    prompt_seconds: float = PROMPT_SECONDS
    """Where prompts are cut: at the nearest phone boundary."""
    shortest: float = MIN_SECONDS
    longest: float | None = None
    """Utterances of fewer or more seconds are left out; by default 4 to 25 (continuation) or 10."""
    limit: int | None = None
    """Only the first so many utterances or sentences."""
    recognizers: tuple[str, ...] = (INSTALLED,)
    """pocketsphinx, faster-whisper:MODEL (a name or folder), none; by default pocketsphinx."""
    speaker: str = INSTALLED
    """Speaker encoder: resemblyzer, or a WavLM speaker verification model of Hugging Face by name or folder; none."""
    quality: str = INSTALLED
    """dnsmos or none."""
    phones: str = INSTALLED
    """What hears phones: pocketsphinx or none."""
    sweep: Annotated[str | None, arg(metavar="FIELD=V,V,…")] = None
    """top_p or temperature, each value another row: --sweep top_p=0.5,0.7,0.9,1.0"""
    players: int = 12
    """Utterances, worst first, that the report lets one hear and see."""
    batch_size: int = 8
    """Sentences that are spoken at a time, their rows spread over as many of the devices as divide it."""
    codec: Annotated[str | None, arg(metavar="SPEC")] = None
    """The codec, as for `ellav prepare`; by default the one that the models' data was made with."""
    dictionary: Annotated[Path | None, arg(metavar="FILE")] = None
    """The pronouncing dictionary, if the models' data was prepared with one of its own."""
    prompt_cache: Annotated[Path | None, arg(metavar="DIR")] = None
    """Where --prompts are kept, aligned and encoded; by default ellav_jax/prompts in $XDG_CACHE_HOME or ~/.cache."""
    sampling: Annotated[SamplingConfig, arg(name="")] = SamplingConfig()
    limits: Annotated[PhoneLimits, arg(name="")] = PhoneLimits()


def main(arguments: Sequence[str]) -> None:
    """Runs `ellav evaluate`."""
    chosen = tyro.cli(EvaluateArguments, args=arguments, prog="ellav evaluate")
    _check(chosen)
    use_cores(MeshConfig(), chosen.batch_size)
    systems = make_systems(chosen)
    cards = _read_cards(systems)
    frontend = cards[0].frontend
    dataset = None if chosen.data is None else _open_data(chosen, cards[0])
    metrics, left_out = choose_metrics(chosen.recognizers, chosen.speaker, chosen.quality, chosen.phones, frontend)
    if not find_spec("matplotlib"):
        left_out.append("no spectrograms and no curves: matplotlib is not installed (pip install 'ellav-jax[report]')")
    say(f"judged by: {', '.join(metric.name for metric in metrics) or 'INF %, duration and speed alone'}")
    for line in left_out:
        say(line)
    use_compilation_cache(_warn)
    synthesizer = _load(systems[0], chosen)
    work = _work(chosen, dataset, synthesizer)
    say(f"{len(work.targets)} utterances, {len(work.skipped)} left out; {len(systems)} systems")
    claim(chosen.out, _identity(chosen, systems, work))
    with take_lock(
        chosen.out / ".lock", f"{chosen.out}: another `ellav evaluate` is at work in it; wait for it or stop it"
    ):
        rows = _make_rows(chosen, systems, work, synthesizer)
        write_report(_evaluation(chosen, systems, work, rows, metrics, left_out, synthesizer))


def _check(chosen: EvaluateArguments) -> None:
    """What can be told from the arguments alone. Raises InputError."""
    if (chosen.data is None) == (chosen.sentences is None):
        raise InputError("expected either --data DIR (a data set) or --sentences FILE with --prompts DIR")
    if (chosen.sentences is None) != (chosen.prompts is None):
        raise InputError(
            "--sentences and --prompts go together: what to say, and recordings of the voices to say it in"
        )
    if len(chosen.nar) not in (1, len(chosen.gar)):
        raise InputError(
            f"{len(chosen.gar)} --gar and {len(chosen.nar)} --nar; expected one --nar, or one for each --gar"
        )
    for name, least in (("batch_size", 1), ("players", 0), ("limit", 1)):
        value = getattr(chosen, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value}; expected {least} or more")
    if not chosen.prompt_seconds > 0:
        raise InputError(f"--prompt-seconds {chosen.prompt_seconds:g}; expected above 0")
    if not chosen.shortest <= _longest(chosen):
        raise InputError(
            f"--shortest {chosen.shortest:g} is above --longest {_longest(chosen):g}; nothing is between them"
        )


def _longest(chosen: EvaluateArguments) -> float:
    return MAX_SECONDS[chosen.protocol] if chosen.longest is None else chosen.longest


def make_systems(chosen: EvaluateArguments) -> list[System]:
    """Each GAR with each value of the sweep. Raises InputError for a sweep that can't be read."""
    field, values = parse_sweep(chosen.sweep, chosen.sampling)
    nars = chosen.nar * len(chosen.gar) if len(chosen.nar) == 1 else chosen.nar
    names = [path.name for path in chosen.gar]
    systems = []
    for gar, nar in zip(chosen.gar, nars, strict=True):
        line = gar.name if names.count(gar.name) == 1 else str(gar)
        for value in values:
            sampling = chosen.sampling if value is None else dataclasses.replace(chosen.sampling, **{field: value})
            label = line if value is None else f"{line}, {field} {value:g}"
            systems.append(System(label, line, gar, nar, sampling, value))
    labels = [system.label for system in systems]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise InputError(f"{twice} is there twice; give each --gar and each value of --sweep once")
    return systems


def parse_sweep(sweep: str | None, sampling: SamplingConfig) -> tuple[str | None, list[float | None]]:
    """`top_p=0.5,0.9` → its name and values; (None, [None]) for no sweep. Raises InputError."""
    if sweep is None:
        return None, [None]
    field, equals, rest = sweep.partition("=")
    field = field.replace("-", "_")
    if field not in SWEPT or not equals:
        raise InputError(f"--sweep {sweep}; expected FIELD=V,V,… with one of {', '.join(SWEPT)}: top_p=0.5,0.7,0.9,1.0")
    try:
        values = [float(value) for value in rest.split(",")]
    except ValueError:
        raise InputError(f"--sweep {sweep}: {rest!r} is no list of numbers; expected such as 0.5,0.7,0.9,1.0") from None
    if field == "top_p" and sampling.temperature == 0:
        raise InputError(
            f"--sweep {sweep}: greedy decoding (--temperature 0) doesn't know top_p; leave one of them out"
        )
    return field, list(values)


def _read_cards(systems: Sequence[System]) -> list[TrainedCard]:
    """All models' cards, which must agree: what can go wrong with a model, but for its weights, goes wrong here."""
    cards = [read_trained(path, kind) for one in systems for path, kind in ((one.gar, "gar"), (one.nar, "nar"))]
    for card in cards[1:]:
        cards[0].frontend.check_same(card.frontend, f"{card.path} (beside {cards[0].path})")
        if card.codec["sha256"] != cards[0].codec["sha256"]:
            raise InputError(f"{card.path} knows codes of {card.codec}, {cards[0].path} those of {cards[0].codec}")
    return cards


def _open_data(chosen: EvaluateArguments, card: TrainedCard) -> Dataset:
    dataset = Dataset.open(chosen.data)
    card.frontend.check_same(dataset.frontend, f"{chosen.data} (beside {card.path})")
    if codec_of(dataset)["sha256"] != card.codec["sha256"]:
        raise InputError(f"{chosen.data} holds codes of {codec_of(dataset)}, {card.path} knows those of {card.codec}")
    return dataset


def _load(system: System, chosen: EvaluateArguments) -> Synthesizer:
    mesh = mesh_of_rows(chosen.batch_size)
    return load_synthesizer(system.gar, system.nar, chosen.codec, _limits(chosen), chosen.dictionary, mesh)


def _limits(chosen: EvaluateArguments) -> PhoneLimits:
    """Sentences are cut off where they count as endless and not before, unless the user says when."""
    if chosen.limits.max_seconds is not None:
        return chosen.limits
    return dataclasses.replace(chosen.limits, max_seconds=infinite_frames(_t_max(chosen), FRAME_RATE) / FRAME_RATE)


def _t_max(chosen: EvaluateArguments) -> float:
    return LONGEST_SECONDS[chosen.protocol if chosen.sentences is None else "sentences"]


def _work(chosen: EvaluateArguments, dataset: Dataset | None, synthesizer: Synthesizer) -> Work:
    if dataset is not None:
        lengths = (chosen.shortest, _longest(chosen))
        return data_set_work(
            dataset,
            chosen.split,
            chosen.corpus,
            chosen.protocol,
            lengths,
            chosen.prompt_seconds,
            chosen.limit,
            synthesizer,
        )
    cache = PromptCache(chosen.prompt_cache or default_cache_folder(), _warn)
    return sentence_work(chosen.sentences, chosen.prompts, chosen.prompt_seconds, chosen.limit, synthesizer, cache)


def _identity(chosen: EvaluateArguments, systems: Sequence[System], work: Work) -> dict:
    """What decides on the speech: a folder holds that of one identity."""
    return {
        "format": FORMAT,
        "work": dict(work.identity),
        "systems": {
            system.label: {
                "gar": str(read_trained(system.gar, "gar").path.resolve()),
                "nar": str(read_trained(system.nar, "nar").path.resolve()),
                "sampling": dataclasses.asdict(system.sampling),
            }
            for system in systems
        },
        "limits": dataclasses.asdict(_limits(chosen)),
    }


def claim(out: Path, identity: dict) -> None:
    """Makes the folder, or checks that what is in it is the same evaluation. Raises InputError."""
    path = out / IDENTITY
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file is in the way; --out wants a folder")
    if path.exists():
        old = read_json(path, "description of an evaluation")
        if not isinstance(old, dict) or old.get("format") != FORMAT:
            raise InputError(f"{path}: not the description of an {FORMAT}; choose another --out")
        if changed := differences(old, identity):
            raise InputError(f"{out} holds another evaluation ({'; '.join(changed)}); choose another --out")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: not empty and not a folder of ellav evaluate; choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, identity)


def _make_rows(chosen: EvaluateArguments, systems: Sequence[System], work: Work, synthesizer: Synthesizer) -> list[Row]:
    """Everything that is to be judged, spoken and written."""
    folder, codec, inventory = chosen.out / "systems", synthesizer.codec, synthesizer.frontend.phones
    of = "" if work.references else " of the prompts"
    recording = Row(f"recordings{of}", folder / "recordings")
    resynthesis = Row(f"codec resynthesis{of}", folder / "resynthesis")
    write_prompts(work, chosen.out / "prompts", codec)
    write_recordings(work, recording, resynthesis, codec, inventory)
    rows = [Row(system.label, folder / f"{number:02d}", system) for number, system in enumerate(systems, start=1)]
    filled = {
        nar: Row(label, folder / f"nar_{n:02d}") for n, (nar, label) in enumerate(_nars(systems).items(), start=1)
    }
    longest, limits = _t_max(chosen), _limits(chosen)
    here, loaded = synthesizer, _models(systems[0])
    for row in rows:
        if _models(row.system) != loaded:
            # What was compiled for the models before would stay: some 3,000 mappings of memory for each pair, and Linux
            # gives a process 65,530.
            jax.clear_caches()
            here, loaded = _load(row.system, chosen), _models(row.system)
        if work.references:
            fill_recordings(work, filled[row.system.nar], here, chosen.sampling, chosen.batch_size)
        speak(work, row, here, limits, longest, chosen.batch_size)
        speak_uncapped(work, row, here, limits.min_frames, longest, chosen.batch_size)
    return [recording, resynthesis, *(filled.values() if work.references else ()), *rows]


def _models(system: System) -> tuple[Path, Path]:
    return system.gar, system.nar


def _nars(systems: Sequence[System]) -> dict[Path, str]:
    """Each NAR, and the name of the row that it makes of the recordings' layer 1."""
    nars = list(dict.fromkeys(system.nar for system in systems))
    names = [nar.name for nar in nars]
    return {nar: f"recorded layer 1, {nar.name if names.count(nar.name) == 1 else nar}'s 2 to 8" for nar in nars}


def _evaluation(
    chosen: EvaluateArguments,
    systems: Sequence[System],
    work: Work,
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    left_out: Sequence[str],
    synthesizer: Synthesizer,
) -> Evaluation:
    sweep, _ = parse_sweep(chosen.sweep, chosen.sampling)
    what = f"{chosen.data.name}, {chosen.split}, {chosen.protocol}" if chosen.data else f"sentences: {chosen.sentences}"
    return Evaluation(
        out=chosen.out,
        title=f"ELLA-V evaluated: {what}",
        work=work,
        rows=rows,
        metrics=metrics,
        left_out=left_out,
        sweep=sweep,
        figures=find_spec("matplotlib") is not None,
        settings=read_json(chosen.out / IDENTITY, "description of an evaluation"),
        players=chosen.players,
        frame_rate=synthesizer.codec.frame_rate,
        prompt_wav=lambda index: soundfile.read(chosen.out / "prompts" / f"{index:05d}.wav", dtype="float32")[0],
    )


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
