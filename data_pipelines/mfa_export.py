"""A corpus as Montreal Forced Aligner (MFA) wants it: recordings, their words, and a dictionary in any language.

FOLDER/corpus/SPEAKER/STEM.wav (or .flac) and STEM.lab    FOLDER/dictionary.dict    FOLDER/mfa.json
"""

import dataclasses
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import soundfile

from data_pipelines.audio import write_audio
from data_pipelines.corpora.utterance import Audio, AudioFile, Corpus, Utterance
from data_pipelines.listing import selected
from data_pipelines.textgrid_folder import file_stem, folder_name
from ellav_jax.errors import InputError, UnusableError
from ellav_jax.files import atomic_path, read_json, write_bytes, write_json
from ellav_jax.frontend.dictionary import Dictionary, bundled_dictionary_path, load_dictionary
from ellav_jax.frontend.espeak import EspeakPronouncer
from ellav_jax.frontend.inventory import IPA
from ellav_jax.frontend.spoken_words import is_english, spoken_words

_LINKED = {"WAV": ".wav", "FLAC": ".flac"}


@dataclasses.dataclass
class MfaSummary:
    """What was found and written (of these, `kept` from an earlier run), and why the rest was not; words: distinct ones."""

    found: int = 0
    written: int = 0
    kept: int = 0
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    words: int = 0


def write_mfa(
    corpus: Corpus,
    folder: str | Path,
    language: str = "en-us",
    stress: bool = False,
    limit: int | None = None,
    max_seconds: float | None = None,
    progress: Callable[[int, int], None] = lambda done, skipped: None,
) -> MfaSummary:
    """Writes FOLDER/corpus and FOLDER/dictionary.dict; what an earlier run wrote is kept, so a stopped run goes on.

    language: a voice of espeak-ng, which pronounces every word of the corpus in IPA. With `stress` vowels keep their
    stress marks, and MFA takes them for phones of their own. limit: the first so many utterances of each split.
    Recordings are 16-bit WAV at their own rate; whole files that are 16-bit mono WAV or FLAC are linked, not copied.
    Utterances that can't be used (a fault, unreadable or longer than max_seconds, a word without pronunciation) are left
    out and counted by fault. `progress` is called with utterances done, and left out among them.

    Raises InputError when `folder` holds something else, or another corpus or language; when no utterance can be used.
    """
    folder = Path(folder)
    pronouncer = EspeakPronouncer(language, stress, IPA)
    _claim(folder, {"format": "ellav-mfa", "corpus": corpus.name, "language": language, "stress": stress})
    speller = load_dictionary(bundled_dictionary_path(), stress=False) if is_english(language) else Dictionary({})
    summary, pronunciations = MfaSummary(), {}
    for utterance in selected(corpus.utterances, limit):
        summary.found += 1
        try:
            if utterance.fault is not None:
                raise UnusableError(utterance.fault.kind, utterance.fault.detail)
            words = [word.plain.strip("'") for word in spoken_words(utterance.text, language, speller, pause_marks="")]
            spoken = {word: pronouncer.pronounce(word) for word in words}
            summary.kept += not _write_utterance(utterance, " ".join(words), folder / "corpus", max_seconds)
            summary.written += 1
            pronunciations |= spoken
        except UnusableError as error:
            summary.faults[error.fault] = summary.faults.get(error.fault, 0) + 1
        progress(summary.found, summary.found - summary.written)
    if not summary.written:
        raise InputError(f"corpus {corpus.name}: none of {summary.found} utterances can be used ({summary.faults})")
    lines = [f"{word}\t{' '.join(phones)}\n" for word, phones in sorted(pronunciations.items())]
    write_bytes(folder / "dictionary.dict", "".join(lines).encode())
    summary.words = len(pronunciations)
    return summary


def mfa_commands(folder: str | Path, prepare: Sequence[str], language: str, stress: bool = False) -> str:
    """The commands, for a shell, that align what `write_mfa` wrote and prepare a data set with it.

    prepare: the arguments of `ellav prepare`, but for aligner, dictionary, language and stress.
    """
    folder = Path(folder)
    corpus, dictionary, model, aligned = (
        shlex.quote(str(folder / name)) for name in ("corpus", "dictionary.dict", "acoustic_model.zip", "aligned")
    )
    aligner = shlex.quote(f"textgrid:{folder / 'aligned'}")
    command = f"ellav prepare {shlex.join(prepare)} --aligner {aligner}"
    own = f"{command} --dictionary {dictionary} --language {shlex.quote(language)}{' --stress' if stress else ''}"
    lines = [
        "# Montreal Forced Aligner 3: conda create -n mfa -c conda-forge montreal-forced-aligner; conda activate mfa"
    ]
    if language == "en-us":
        lines += [
            "# either with MFA's own English model and dictionary, in ARPAbet:",
            "mfa model download acoustic english_us_arpa",
            "mfa model download dictionary english_us_arpa",
            f"mfa align --clean {corpus} english_us_arpa english_us_arpa {aligned}",
            command,
            "# or with a model trained on this corpus, in IPA:",
        ]
    lines += [
        f"mfa validate {corpus} {dictionary}",
        f"mfa train --clean {corpus} {dictionary} {model} --output_directory {aligned}",
        own,
    ]
    return "\n".join(lines)


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Makes the folder this export's own, or checks that it is."""
    mark = folder / "mfa.json"
    if mark.exists():
        found = read_json(mark, "description of an MFA folder")
        if found != settings:
            raise InputError(f"{folder}: was written with {found}, not {settings}; give another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already, and not from --write-mfa; give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(mark, settings)


def _write_utterance(utterance: Utterance, words: str, folder: Path, max_seconds: float | None) -> bool:
    """Writes recording and words; False when they are there. The words come last: they mark the utterance as whole."""
    base = folder / folder_name(utterance.speaker) / file_stem(utterance.id)
    lab = base.with_name(f"{base.name}.lab")
    content = f"{words}\n".encode()
    recordings = [base.with_name(f"{base.name}{suffix}") for suffix in _LINKED.values()]
    if lab.is_file() and lab.read_bytes() == content and any(path.is_file() for path in recordings):
        return False
    wave, rate = utterance.audio.read(max_seconds)
    base.parent.mkdir(parents=True, exist_ok=True)
    suffix = _linkable(utterance.audio)
    if suffix is None or not _link(utterance.audio.path, base.with_name(f"{base.name}{suffix}")):
        write_audio(base.with_name(f"{base.name}.wav"), wave, rate)
    with atomic_path(lab) as temporary:
        temporary.write_bytes(content)
    return True


def _linkable(audio: Audio) -> str | None:
    """The suffix to link a recording under, None when MFA needs a copy."""
    if not isinstance(audio, AudioFile) or audio.start_s != 0 or audio.duration_s is not None:
        return None
    info = soundfile.info(audio.path)
    return _LINKED.get(info.format) if info.channels == 1 and info.subtype == "PCM_16" else None


def _link(source: Path, target: Path) -> bool:
    try:
        with atomic_path(target) as temporary:
            os.link(source.resolve(), temporary)
    except OSError:  # another file system, or one without hard links
        return False
    return True
