"""One frontend, analyzer and aligner for all tests of the frontend, and the bundled clips by name."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.dictionary import Dictionary, bundled_dictionary_path, load_dictionary
from ellav_jax.frontend.frontend import Frontend, default_frontend

SPEECH = Path(__file__).parents[3] / "data_pipelines" / "corpora" / "bundled_speech"

Clip = Callable[[str], tuple[np.ndarray, int, str]]


@pytest.fixture(scope="session")
def frontend() -> Frontend:
    return default_frontend()


@pytest.fixture(scope="session")
def cmudict() -> Dictionary:
    return load_dictionary(bundled_dictionary_path(), stress=False)


@pytest.fixture(scope="session")
def analyzer(frontend: Frontend) -> TextAnalyzer:
    return TextAnalyzer(frontend)


@pytest.fixture(scope="session")
def aligner(frontend: Frontend, analyzer: TextAnalyzer) -> Aligner:
    return Aligner(frontend, analyzer)


@pytest.fixture(scope="session")
def clip() -> Clip:
    """Name → waveform, sample rate, text."""
    with open(SPEECH / "metadata.csv", encoding="utf-8") as file:
        texts = {row["file"]: row["text"] for row in csv.DictReader(file)}

    def read(name: str) -> tuple[np.ndarray, int, str]:
        waveform, sample_rate = soundfile.read(SPEECH / "clips" / f"{name}.opus", dtype="float32")
        return waveform, sample_rate, texts[f"{name}.opus"]

    return read
