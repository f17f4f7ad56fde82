"""Metrics of `ellav evaluate` by name, measured from the files that were written."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import soundfile

from ellav_jax.errors import InputError
from ellav_jax.evaluation.intelligibility import Intelligibility
from ellav_jax.evaluation.json_lines import JsonLines
from ellav_jax.evaluation.metric import Heard, Metric
from ellav_jax.evaluation.phone_recognition import PhonesHeard
from ellav_jax.evaluation.protocols import stable_number
from ellav_jax.evaluation.quality import Dnsmos
from ellav_jax.evaluation.recognizers import POCKETSPHINX, open_recognizer
from ellav_jax.evaluation.similarity import RESEMBLYZER, SpeakerSimilarity, open_speaker_encoder
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.inventory import ARPABET
from launch.evaluation.rows import SPEECH, Row
from launch.progress import Progress

INSTALLED, NONE = "installed", "none"
DNSMOS = "dnsmos"


def choose_metrics(
    recognizers: Sequence[str], speaker: str, quality: str, phones: str, frontend: Frontend
) -> tuple[list[Metric], list[str]]:
    """Metrics in the order of the report, and lines that say which are left out by default, and why.

    `installed` stands for what is installed and fits the frontend. Raises InputError for what was asked for and isn't there.
    """
    metrics: list[Metric] = []
    left_out = []
    for name in dict.fromkeys(recognizers):
        if name == INSTALLED and frontend.g2p_language != "en-us":
            left_out.append(
                f"no recogniser by default for {frontend.g2p_language}; give --recognizers faster-whisper:MODEL"
            )
        elif name != NONE:
            recognizer = open_recognizer(POCKETSPHINX if name == INSTALLED else name, frontend.g2p_language)
            metrics.append(Intelligibility(recognizer, frontend.g2p_language))
    has_resemblyzer = all(find_spec(package) for package in (RESEMBLYZER, "torch", "librosa"))
    if speaker == INSTALLED and not has_resemblyzer:
        left_out.append(
            f"no speaker similarity: {RESEMBLYZER}, torch or librosa is not installed; --speaker also takes the name of a "
            "WavLM model"
        )
    elif speaker != NONE:
        name = RESEMBLYZER if speaker == INSTALLED else speaker
        metrics.append(SpeakerSimilarity(name, open_speaker_encoder(name)))
    if quality not in (INSTALLED, NONE, DNSMOS):
        raise InputError(f"--quality {quality}; expected {DNSMOS}, {INSTALLED} or {NONE}")
    has_dnsmos = all(find_spec(package) for package in ("speechmos", "librosa", "onnxruntime"))
    if quality == INSTALLED and not has_dnsmos:
        left_out.append(
            "no DNSMOS: speechmos, librosa or onnxruntime is not installed (pip install 'ellav-jax[evaluate]')"
        )
    elif quality != NONE:
        metrics.append(Dnsmos())
    if phones not in (INSTALLED, NONE, POCKETSPHINX):
        raise InputError(f"--phones {phones}; expected {POCKETSPHINX}, {INSTALLED} or {NONE}")
    if phones == INSTALLED and frontend.phone_set != ARPABET:
        left_out.append(f"no phones heard: the phone decoder knows ARPAbet, not {frontend.phone_set}")
    elif phones != NONE:
        metrics.append(PhonesHeard(frontend))
    return metrics, left_out


def measure(metric: Metric, row: Row, prompt_wav: Callable[[int], np.ndarray]) -> list[dict[str, Any]]:
    """Values of each utterance of the row: those on disk, and the others now, from the row's files."""
    store = JsonLines(row.folder / _file_name(metric))
    lines = JsonLines(row.folder / SPEECH).entries
    if len(store) < len(lines):
        with Progress(f"{metric.name}, {row.label}", "utterance") as progress:
            for index in range(len(store), len(lines)):
                store.append(
                    {"id": lines[index]["id"]} | dict(metric.measure(_heard(row, index, lines[index], prompt_wav)))
                )
                progress.update(len(store), len(lines))
    return store.entries


def _file_name(metric: Metric) -> str:
    """Readable, and another one for each name: two folders of models may end alike."""
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', metric.name)[-40:]}-{stable_number(metric.name):08x}.jsonl"


def _heard(row: Row, index: int, line: dict[str, Any], prompt_wav: Callable[[int], np.ndarray]) -> Heard:
    wave_S, rate = soundfile.read(row.wav(index), dtype="float32")
    prompt_S = np.zeros(0, np.float32) if line["prompt"] is None else prompt_wav(index)
    return Heard(line["text"], tuple(line["phones"]), wave_S, rate, line["given"], prompt_S, line["finished"])
