"""`ellav demo OUT` (`make demo`): bundled speech → data set → GAR and NAR → three sentences, on a page."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from configs import prompts_small
from configs.experiment import Experiment, differences
from data_pipelines.corpora import open_corpus
from data_pipelines.corpora.utterance import Corpus, Utterance
from data_pipelines.local_engine import LocalEngine
from data_pipelines.prepare import PrepareConfig, prepare
from data_pipelines.records import Dataset
from ellav_jax.codec import load_codec_weights, load_device_codec
from ellav_jax.errors import InputError
from ellav_jax.evaluation.figures import require_matplotlib
from ellav_jax.evaluation.page import render
from ellav_jax.evaluation.teacher_forced import TeacherForced
from ellav_jax.files import read_json, write_bytes, write_json
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.training.checkpoint import find_checkpoint, read_card
from launch import train
from launch.assemble import make_card
from launch.cpu_devices import use_cores
from launch.demo_page import describe_demo
from launch.progress import Progress

# Held-out clips: a voice prompt of 3.3 s, and sentences of which the corpus has a recording to compare with.
PROMPT = "agent-pass"
SENTENCES = ("priv-recordintro", "vm-tempremoved", "check-number-dial-again")
NOTES = "demo.json"
PARTS = {"data": "data set", "gar": "GAR", "nar": "NAR", "page": "speech and page"}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Prepares the bundled speech, trains a small GAR and NAR, speaks three held-out sentences, and writes OUT/index.html.

    What is there is reused (remove a part of OUT to have it made anew); stopped at any moment, the same command continues.
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder of the demo: new, or one to continue."""
    gar_steps: int = prompts_small.gar().train.steps
    nar_steps: int = prompts_small.nar().train.steps
    """Training steps; fewer are quicker and sound worse."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command. Raises InputError for bad input, OSError when the disk is full."""
    chosen = tyro.cli(Arguments, args=arguments, prog="ellav demo")
    for name, steps in (("--gar-steps", chosen.gar_steps), ("--nar-steps", chosen.nar_steps)):
        if steps < 1:
            raise InputError(f"{name} {steps}; expected at least 1")
    gar, nar = (
        dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=steps))
        for experiment, steps in ((prompts_small.gar(), chosen.gar_steps), (prompts_small.nar(), chosen.nar_steps))
    )
    make_demo(chosen.out, open_corpus("bundled"), gar, nar)


def make_demo(out: Path, corpus: Corpus, gar: Experiment, nar: Experiment) -> None:
    """Makes what `out` lacks of: data/, gar/, nar/, index.html. Prints what it reuses, and the figures at the end.

    Raises InputError when `out` is something else, or the corpus lacks the clips that the demo speaks.
    """
    require_matplotlib()  # now rather than when the models are trained
    use_cores(gar.mesh, math.gcd(gar.data.batch_rows, nar.data.batch_rows))
    prompt, sentences = held_out_clips(corpus)
    notes = Notes(out)
    dataset = _prepare(notes, corpus)
    for name, experiment in (("gar", gar), ("nar", nar)):
        _train(notes, name, experiment, dataset)
    sampling = SamplingConfig()
    source = {
        "gar": read_card(find_checkpoint(out / "gar")),
        "nar": read_card(find_checkpoint(out / "nar")),
        "data": dataset.info["settings"],
        "clips": [prompt.id, *(one.id for one in sentences)],
        "sampling": dataclasses.asdict(sampling),
    }
    page = out / "index.html"
    if page.is_file() and notes.page and not differences(notes.page["source"], source):
        _say(f"{page}: reused")
    else:
        with notes.timed("page"):
            described = describe_demo(out, corpus, dataset, prompt, sentences, sampling, notes.seconds)
            write_bytes(page, render(described).encode())
        figures = dataclasses.asdict(described.teacher_forced)
        notes.page = {"source": source, "teacher_forced": figures}
        notes.save()
    print(_summary(page, notes))


def held_out_clips(corpus: Corpus) -> tuple[Utterance, list[Utterance]]:
    """The prompt and the sentences. Raises InputError when the corpus's test split lacks one of them."""
    test = {one.id: one for one in corpus.utterances if one.split == "test"}
    if missing := [name for name in (PROMPT, *SENTENCES) if name not in test]:
        raise InputError(f"corpus {corpus.name}: no {', '.join(missing)} in its test split; the demo speaks them")
    return test[PROMPT], [test[name] for name in SENTENCES]


class Notes:
    """OUT/demo.json, which marks OUT as a demo's: `seconds` of each part, and `page`: what it shows and was made from.

    Raises InputError when OUT is a file, or a folder of something else.
    """

    def __init__(self, out: Path):
        self.out, self._path = out, out / NOTES
        self.seconds: dict[str, float] = {}
        self.page: dict[str, Any] | None = None
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: a file is in the way; the demo wants a folder")
        if self._path.exists():
            notes = read_json(self._path, "demo's notes")
            if not isinstance(notes, dict) or not {"seconds", "page"} <= notes.keys():
                raise InputError(f"{self._path}: not the notes of a demo; choose another folder")
            self.seconds, self.page = notes["seconds"], notes["page"]
        elif out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out}: not empty and not a demo's folder; choose another one")
        else:
            out.mkdir(parents=True, exist_ok=True)
            self.save()

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds the time of the work inside to that of earlier runs, interrupted or not; the page is out of date then."""
        # The folder is that of the part, where it has one: without it the work begins anew.
        before = self.seconds.get(part, 0.0) if (self.out / part).exists() else 0.0
        self.page = None
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = before + time.monotonic() - start
            self.save()

    def save(self) -> None:
        """Writes the file."""
        write_json(self._path, {"seconds": self.seconds, "page": self.page})


def _prepare(notes: Notes, corpus: Corpus) -> Dataset:
    folder = notes.out / "data"
    engine = LocalEngine(os.cpu_count() or 1, load_device_codec("bundled"))
    settings = (folder, load_codec_weights("bundled").facts, default_frontend(), PrepareConfig(), engine)
    if (folder / "dataset.json").exists():
        prepare(corpus, *settings)  # checks that it is this one
        _say(f"{folder}: reused")
    else:
        with notes.timed("data"), Progress(f"preparing {corpus.name}", "utterance") as progress:
            prepare(corpus, *settings, progress=lambda done, total, _: progress.update(done, total))
    return Dataset.open(folder)


def _train(notes: Notes, name: str, experiment: Experiment, dataset: Dataset) -> None:
    workdir = notes.out / name
    if _is_trained(workdir, experiment, dataset):
        _say(f"{workdir}: reused, {experiment.train.steps} steps")
        return
    _say(f"{workdir}: training the {PARTS[name]}, {experiment.train.steps} steps")
    with notes.timed(name):
        train.start(experiment, [dataset], workdir)


def _is_trained(workdir: Path, experiment: Experiment, dataset: Dataset) -> bool:
    """Whether the work directory holds this run, ended. What else it may hold is for `train.start` to continue or refuse."""
    try:
        checkpoint = find_checkpoint(workdir)
        card = read_card(checkpoint)
    except InputError:
        return False
    ended = int(checkpoint.name) == experiment.train.steps
    return ended and not differences(card, make_card(experiment, dataset))


def _summary(page: Path, notes: Notes) -> str:
    figures = TeacherForced(**notes.page["teacher_forced"])
    times = ", ".join(f"{PARTS[part]} {seconds:.0f} s" for part, seconds in notes.seconds.items())
    return "\n".join(
        [
            f"{page}: open it in a browser",
            (
                f"  held-out layer-1 accuracy {figures.accuracy:.1%}, {figures.accuracy_ratio:.2f} x that of the best "
                f"constant guess for the phone ({figures.constant_accuracy:.1%})"
            ),
            (
                f"  cross-entropy {figures.cross_entropy:.2f} nats a code, {abs(figures.margin):.2f} "
                f"{'below' if figures.margin >= 0 else 'above'} the phone's unigram "
                f"({figures.unigram_cross_entropy:.2f}); teacher forced, {figures.frames} frames, silence left out"
            ),
            f"  times: {times}",
        ]
    )


def _say(line: str) -> None:
    print(line, flush=True)
