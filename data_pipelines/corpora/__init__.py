"""Corpora by name: each yields `Utterance`s."""

from data_pipelines.corpora.bundled import open_bundled
from data_pipelines.corpora.utterance import Corpus
from ellav_jax.errors import InputError

CORPORA = {"bundled": open_bundled}


def open_corpus(spec: str) -> Corpus:
    """Opens the corpus that `spec` names: `bundled` is the project's own 24 minutes of speech.

    Raises InputError for an unknown spec, and for a corpus that isn't whole.
    """
    if spec not in CORPORA:
        raise InputError(f"unknown corpus {spec!r}; the corpora are: {', '.join(sorted(CORPORA))}")
    return CORPORA[spec]()
