"""What `ellav synthesize` reads and writes beside the prompt: texts, speech, its TextGrid, tables of phones."""

from pathlib import Path

import numpy as np

from data_pipelines.audio import write_audio
from ellav_jax.codec.codec import Codec
from ellav_jax.errors import InputError
from ellav_jax.files import write_bytes
from ellav_jax.frontend.textgrid_text import textgrid_text
from ellav_jax.synthesis.request import SpeechRequest
from ellav_jax.synthesis.speech import Speech, speech_textgrid


class SpeechOutput:
    """Sentences as they are spoken: each into a folder at once, where one is given, and all into one file in the end."""

    def __init__(self, codec: Codec, folder: Path | None, pause_seconds: float):
        self._codec, self._folder = codec, folder
        self._pause = round(pause_seconds * codec.sample_rate)
        self._speeches: list[Speech] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, speech: Speech) -> None:
        """The next sentence."""
        self._speeches.append(speech)
        if self._folder is not None:
            path = self._folder / f"{len(self._speeches):04}.wav"
            write_audio(path, speech.waveform_S, self._codec.sample_rate)

    def write(self, out: Path, textgrid: Path | None) -> None:
        """All that was spoken, with the pauses between, and its TextGrid."""
        pause_S = np.zeros(self._pause, np.float32)
        parts = [part for speech in self._speeches for part in (pause_S, speech.waveform_S)][1:]
        write_audio(out, np.concatenate(parts), self._codec.sample_rate)
        if textgrid is not None:
            pause_seconds = self._pause / self._codec.sample_rate
            grid = speech_textgrid(self._speeches, self._codec.frame_rate, pause_seconds)
            write_bytes(textgrid, textgrid_text(grid).encode())

    def describe(self, out: Path) -> str:
        """One line on what was spoken, and one more where a sentence did not end by itself."""
        samples = sum(len(speech.waveform_S) for speech in self._speeches) + self._pause * (len(self._speeches) - 1)
        phones = sum(len(speech.phones) for speech in self._speeches)
        several = len(self._speeches) > 1
        how = f"{len(self._speeches)} sentences" if several else f"{self._speeches[0].calls} GAR calls"
        line = f"{out}: {samples / self._codec.sample_rate:.2f} s, {phones} phones, {how}"
        cut = [str(number) for number, speech in enumerate(self._speeches, start=1) if not speech.finished]
        if cut:
            which = f" in sentence {', '.join(cut)}" if several else ""
            line += f"\nthe GAR did not end by itself{which}: cut off at the limit on frames"
        return line


def phone_table(request: SpeechRequest, frame_rate: int) -> str:
    """Phones and words with their numbers, and what is asked of them."""
    word_of = {}
    for number, word in enumerate(request.words):
        for place in range(word.begin, word.end):
            word_of[place] = (number, place - word.begin, word.text)
    lines = ["phone  name  word  phone in word"]
    for place, name in enumerate(request.phones):
        number, inside, text = word_of.get(place, ("", "", ""))
        floor, cap = (None if values is None else values[place] for values in (request.floors, request.caps))
        asked = ""
        if floor is not None and floor == cap:
            asked = f"{floor} frames ({floor / frame_rate:.3f} s)"
        elif floor is not None or cap is not None:
            asked = " and ".join(f"{what} {n}" for what, n in (("at least", floor), ("at most", cap)) if n) + " frames"
        lines.append(f"{place:5}  {name:4}  {number!s:>4}  {inside!s:>5}  {text:15} {asked}".rstrip())
    return "\n".join(lines)


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises InputError when it can't be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); expected a text file") from None


def check_new_file(option: str, path: Path) -> None:
    """Raises InputError where no file can be written."""
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; expected the name of a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: no such folder {path.parent}")
