"""`flite:N`: made sentences in the voices of Flite, any number, spoken while they are prepared.

Hours of speech for no more than a Debian package; docs/more_speech.md has what small models learn of it. The voices are
synthetic, of recorded speakers (CMU ARCTIC). espeak-ng's would need no program beside the package, but what the bundled
codec makes of them is not understood.
"""

import dataclasses
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio import read_audio
from data_pipelines.corpora.made_sentences import made_sentence
from data_pipelines.corpora.options import CorpusOptions
from data_pipelines.corpora.reading import LazyUtterances
from data_pipelines.corpora.utterance import Corpus, Utterance
from ellav_jax.errors import InputError

VOICES = ("slt", "rms", "awb")
"""A woman and a man of American English, a man of Scottish English. Flite's other voice, kal, is understood less well."""
HELD_OUT_SENTENCES = 60
MOST_SENTENCES = 1_000_000
LICENCE = "Flite and its voices: BSD-like, Carnegie Mellon University and others; sentences: Apache-2.0"
ATTRIBUTION = "synthetic speech of Flite (CMU) in its voices slt, rms and awb; sentences of ellav_jax"


@dataclasses.dataclass(frozen=True)
class FliteAudio:
    """What a voice of Flite says, spoken when it is read: an `Audio` without a file."""

    text: str
    voice: str

    @property
    def name(self) -> str:
        return f"flite's {self.voice}: {self.text!r}"

    def read(self, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
        """As `Audio.read`. Raises InputError when there is no Flite, or it fails."""
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "speech.wav"
            command = [find_flite(), "-voice", self.voice, "-t", self.text, "-o", str(wav)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
            if done.returncode or not wav.exists():
                told = " ".join((done.stderr or done.stdout).split())
                raise InputError(
                    f"flite -voice {self.voice} ended with status {done.returncode}: {told or 'no speech'}"
                )
            return read_audio(wav, max_seconds)

    def stamp(self) -> Any:
        return [flite_version(), self.voice, self.text]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "flite", **dataclasses.asdict(self)}


def open_flite(count: str, options: CorpusOptions) -> Corpus:
    """`flite:N`: N sentences in `train`, and 60 others in `test`, by the three voices in turn.

    The splits are its own, so `options.test_share` says nothing here. Utterance i of a split is a function of i: a larger
    corpus begins with a smaller one. Raises InputError for what is no number from 1 to a million, and without Flite.
    """
    if not (count.isascii() and count.isdecimal()) or not 1 <= int(count) <= MOST_SENTENCES:
        raise InputError(f"flite:{count}: expected flite:N, the number of sentences to train on, 1 to {MOST_SENTENCES}")
    find_flite()
    return Corpus("flite", LICENCE, ATTRIBUTION, LazyUtterances(functools.partial(_utterances, int(count))))


def _utterances(count: int) -> Iterator[Utterance]:
    for split, sentences in (("train", count), ("test", HELD_OUT_SENTENCES)):
        for number in range(sentences):
            text, voice = made_sentence(split, number), VOICES[number % len(VOICES)]
            yield Utterance(f"{split}-{number:06d}", FliteAudio(text, voice), text, voice, split)


def find_flite() -> str:
    """The program; raises InputError when it isn't installed."""
    program = shutil.which("flite")
    if program is None:
        raise InputError(
            "flite:N speaks with the program flite, which is not on the PATH; on Debian: apt install flite"
        )
    return program


@functools.cache
def flite_version() -> str:
    """The version that Flite tells of itself: other versions may speak otherwise."""
    done = subprocess.run([find_flite(), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = [line.strip() for line in done.stdout.splitlines() if "version" in line]
    return lines[0] if lines else "unknown"
