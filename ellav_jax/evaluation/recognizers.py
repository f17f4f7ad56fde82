"""Speech recognisers by name."""

from typing import Any, Protocol

import numpy as np

from ellav_jax.errors import InputError
from ellav_jax.evaluation.pocketsphinx_audio import decode_pcm, pcm_for_pocketsphinx
from ellav_jax.resampling import resample

POCKETSPHINX = "pocketsphinx"
FASTER_WHISPER = "faster-whisper"
_WHISPER_RATE = 16000


class Recognizer(Protocol):
    """name: as the user gave it."""

    name: str

    def transcribe(self, waveform_S: np.ndarray, sample_rate: int) -> str:
        """float32 [S] in [-1, 1] → what was understood, "" for nothing. Depends on this waveform alone."""


def open_recognizer(name: str, language: str) -> Recognizer:
    """`pocketsphinx` (its own English language model), or `faster-whisper:MODEL`, a model's name or folder.

    language: the frontend's, an espeak-ng voice. Raises InputError for another name, for a language that it does not
    have, where its package is missing, or its model is not to be had.
    """
    kind, colon, model = name.partition(":")
    if name == POCKETSPHINX:
        if language != "en-us":
            raise InputError(
                f"recogniser {name} understands en-us, the models speak {language}; give --recognizers "
                f"{FASTER_WHISPER}:MODEL"
            )
        return PocketsphinxRecognizer()
    if kind == FASTER_WHISPER and colon and model:
        return FasterWhisperRecognizer(name, model, language.split("-")[0])
    raise InputError(
        f"unknown recogniser {name!r}; expected {POCKETSPHINX}, or {FASTER_WHISPER}:MODEL with a model's name "
        f"({FASTER_WHISPER}:large-v3) or folder"
    )


class PocketsphinxRecognizer:
    """pocketsphinx with the acoustic and language model of its package: small, always there, and hard of hearing."""

    name = POCKETSPHINX

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(loglevel="FATAL")

    def transcribe(self, waveform_S: np.ndarray, sample_rate: int) -> str:
        # The mean of the cepstrum is taken over the utterance, but begins with that of the one before.
        self._decoder.reinit_feat()
        decode_pcm(self._decoder, pcm_for_pocketsphinx(waveform_S, sample_rate))
        found = self._decoder.hyp()
        return "" if found is None else found.hypstr


class FasterWhisperRecognizer:
    """Whisper through faster-whisper, greedy, without timestamps and without a memory of the text before."""

    def __init__(self, name: str, model: str, language: str):
        """Raises InputError where the package or the model is missing."""
        self.name = name
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise InputError(
                f"recogniser {name} needs faster-whisper; install it with: pip install 'ellav-jax[evaluate]'"
            ) from None
        self._language = language
        try:
            self._model: Any = WhisperModel(model, device="auto", compute_type="default")
        except (ValueError, RuntimeError, OSError) as error:
            # Hugging Face's errors are ValueErrors or OSErrors, ctranslate2's RuntimeErrors.
            raise InputError(
                f"recogniser {name}: no such model here, and it could not be fetched "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); give a folder that holds one, "
                "or another name"
            ) from None

    def transcribe(self, waveform_S: np.ndarray, sample_rate: int) -> str:
        segments, _ = self._model.transcribe(
            resample(waveform_S, sample_rate, _WHISPER_RATE),
            language=self._language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(segment.text.strip() for segment in segments)
