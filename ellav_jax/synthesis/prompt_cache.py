"""Prompts on disk: what aligning and encoding a recording gave, to be found again."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ellav_jax.files import write_bytes
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.word_spans import WordSpan
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.synthesizer import Synthesizer

FORMAT = 1
"""Of the files, and of what makes a prompt: to be raised when either changes."""


def default_cache_folder() -> Path:
    """ellav_jax/prompts in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ellav_jax" / "prompts"


class PromptCache:
    """A folder of files KEY.safetensors; KEY is the SHA-256 of all that a prompt depends on.

    These are samples, rate, text, alignment, codec, and frontend (with its dictionary's hash). Several processes may
    share it. A file that can't be read is made anew, with a warning to `warn`, as is one that can't be written.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]):
        self.folder, self._warn = folder, warn

    def prompt(
        self,
        synthesizer: Synthesizer,
        waveform_S: np.ndarray,
        sample_rate: int,
        text: str,
        intervals: Sequence[PhoneInterval] | None = None,
    ) -> Prompt:
        """`Synthesizer.prompt`, from the cache where it is there. Raises InputError as that does."""
        path = self.folder / f"{_key(synthesizer, waveform_S, sample_rate, text, intervals)}.safetensors"
        try:
            return _decode(path.read_bytes(), len(synthesizer.frontend.phones))
        except FileNotFoundError:
            pass
        except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
            self._warn(f"warning: {path}: not a cached prompt ({error}); made anew")
        prompt = synthesizer.prompt(waveform_S, sample_rate, text, intervals)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _encode(prompt))
        except OSError as error:
            self._warn(
                f"warning: {path}: the prompt can't be kept ({error.strerror}); --prompt-cache names another folder"
            )
        return prompt


def _key(
    synthesizer: Synthesizer,
    waveform_S: np.ndarray,
    sample_rate: int,
    text: str,
    intervals: Sequence[PhoneInterval] | None,
) -> str:
    samples = np.ascontiguousarray(waveform_S, "<f4").tobytes()
    content = {
        "format": FORMAT,
        "samples": hashlib.sha256(samples).hexdigest(),
        "rate": sample_rate,
        "text": text,
        "intervals": intervals,
        "codec": synthesizer.codec.sha256,
        "frontend": dataclasses.asdict(synthesizer.frontend),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _encode(prompt: Prompt) -> bytes:
    words = json.dumps([dataclasses.asdict(word) for word in prompt.words]).encode()
    arrays = {"phones_P": prompt.phones_P, "durations_P": prompt.durations_P, "codes_Tx8": prompt.codes_Tx8}
    arrays = {name: np.ascontiguousarray(array, np.int32) for name, array in arrays.items()}
    arrays["words"] = np.frombuffer(words, np.uint8)
    # The end of a file that is cut off or overwritten shows in the sum, which stands ahead of it.
    data = save(arrays)
    return hashlib.sha256(data).digest() + data


def _decode(content: bytes, num_phones: int) -> Prompt:
    """Raises ValueError, or what safetensors and json raise, for what `_encode` didn't write."""
    digest, data = content[:32], content[32:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("its checksum is wrong")
    arrays = load(data)
    words = tuple(WordSpan(**word) for word in json.loads(arrays["words"].tobytes()))
    prompt = Prompt(arrays["phones_P"], arrays["durations_P"], arrays["codes_Tx8"], words)
    if prompt.phones_P.max() >= num_phones or prompt.durations_P.sum() != len(prompt.codes_Tx8):
        raise ValueError("its parts don't fit together")
    return prompt
