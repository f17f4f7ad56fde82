"""Corpora by name: each yields `Utterance`s."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.corpora.bundled import open_bundled
from data_pipelines.corpora.flite import FliteAudio, open_flite
from data_pipelines.corpora.folders import open_folder
from data_pipelines.corpora.librispeech import open_librispeech
from data_pipelines.corpora.ljspeech import open_ljspeech
from data_pipelines.corpora.manifest import open_manifest
from data_pipelines.corpora.options import CorpusOptions, TfdsOptions
from data_pipelines.corpora.reading import LazyUtterances
from data_pipelines.corpora.tfds import open_tfds
from data_pipelines.corpora.tfds_audio import TfdsAudio
from data_pipelines.corpora.utterance import Audio, AudioFile, Corpus, Utterance
from ellav_jax.errors import InputError

__all__ = ["CorpusOptions", "TfdsOptions", "audio_from_json", "open_corpus"]

_READERS = {
    "librispeech": open_librispeech,
    "ljspeech": open_ljspeech,
    "folder": open_folder,
    "manifest": open_manifest,
    "tfds": open_tfds,
    "flite": open_flite,
}
_SPECS = "bundled, librispeech:DIR, ljspeech:DIR, folder:DIR, manifest:FILE.jsonl, tfds:NAME[/CONFIG], flite:N"


def open_corpus(spec: str, options: CorpusOptions = CorpusOptions()) -> Corpus:
    """Opens the corpus that `spec` names.

    `bundled` (24 minutes of speech inside the package), `librispeech:DIR` (LibriTTS too), `ljspeech:DIR`, `folder:DIR`
    (recordings beside transcripts), `manifest:FILE.jsonl` (our own lines, NeMo's, Lhotse's cuts), `tfds:NAME[/CONFIG]`,
    `flite:N` (made sentences in Flite's voices).

    Raises InputError for an unknown spec, and for a corpus that isn't there, is empty, or is laid out otherwise.
    """
    kind, colon, rest = spec.partition(":")
    if spec == "bundled":
        corpus = open_bundled()
    elif colon and kind in _READERS:
        corpus = _READERS[kind](rest, options)
    else:
        raise InputError(f"unknown corpus {spec!r}; the corpora are: {_SPECS}")
    if options.lower_case:
        listing = LazyUtterances(functools.partial(_lower_case, corpus))
        corpus = dataclasses.replace(corpus, utterances=listing)
    return corpus


def audio_from_json(fields: Mapping[str, Any]) -> Audio:
    """The inverse of `Audio.to_json`. Raises InputError for a kind that isn't known."""
    values = dict(fields)
    kind = values.pop("kind", None)
    if kind == "file":
        return AudioFile(**values | {"path": Path(values["path"])})
    if kind == "tfds":
        return TfdsAudio(**values | {"folder": Path(values["folder"])})
    if kind == "flite":
        return FliteAudio(**values)
    raise InputError(f"audio of the kind {kind!r}; expected file, tfds or flite")


def _lower_case(corpus: Corpus) -> Iterator[Utterance]:
    for utterance in corpus.utterances:
        yield dataclasses.replace(utterance, text=utterance.text.lower())
