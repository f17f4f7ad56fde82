"""`tfds:NAME[/CONFIG]`: data sets that TensorFlow Datasets (TFDS) prepared, read without TensorFlow.

The data source is TFDS's own, as `tfds.data_source` returns it. Only its builder is made here, from the data set's files
and with the features needed alone: TFDS's audio feature imports TensorFlow when it is made (4.9.10), so the audio is
read as the tensor or string that it is stored as; and a listing without audio needn't take that apart.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.corpora.options import CorpusOptions, TfdsOptions
from data_pipelines.corpora.reading import LazyUtterances, checked, held_out_split, split_of, transcript
from data_pipelines.corpora.tfds_audio import TfdsAudio, data_source, read_example, read_features
from data_pipelines.corpora.utterance import Corpus, Fault, Utterance
from ellav_jax.errors import InputError, UnusableError

TEXT_NAMES = ("text_normalized", "normalized_text", "text", "transcript", "transcription", "sentence")
SPEAKER_NAMES = ("speaker", "speaker_id", "client_id")
"""Features that are taken when the options name none: the first of these that is there."""

_CAPITALS = {"librispeech"}
"""Data sets in capitals, which are lower-cased; see `open_librispeech`."""


def open_tfds(name: str, options: CorpusOptions) -> Corpus:
    """A prepared data set of TFDS: NAME, NAME/CONFIG or NAME/CONFIG/VERSION below `options.tfds.data_dir`.

    The newest version there is taken. The audio is the one Audio feature, the text the first of `TEXT_NAMES`, the speaker
    the first of `SPEAKER_NAMES` (else "unknown"), where the options don't say otherwise. The id is the feature `id`, or
    split and index. Splits are TFDS's ("train_clean100" is train, "validation" dev); where the data set has
    but one, `options.test_share` decides. Nothing is ever downloaded or prepared here.

    Raises InputError when the data set isn't there, isn't in the ArrayRecord format, or lacks the features or splits.
    """
    data_dir = options.tfds.data_dir or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    data_dir = Path(os.path.abspath(os.path.expanduser(data_dir)))
    folder = _version_folder(data_dir, name)
    info = _read_json(folder / "dataset_info.json")
    if "array_record" not in (info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])):
        raise InputError(
            f"{folder}: prepared as {info.get('fileFormat', 'tfrecord')}, expected array_record; convert it with: "
            f"python -m tensorflow_datasets.scripts.convert_format --dataset_version_dir={folder} "
            "--out_file_format=array_record (needs tensorflow)"
        )
    features = read_features(folder)
    audio = _audio_feature(folder, features, options.tfds)
    text = _feature(folder, features, "text", options.tfds.text, TEXT_NAMES)
    if text is None:
        raise InputError(
            f"{folder}: none of its features is a transcript by name ({', '.join(sorted(features))}); name it with the "
            "option tfds.text"
        )
    speaker = _feature(folder, features, "speaker", options.tfds.speaker, SPEAKER_NAMES)
    utterance_id = _feature(folder, features, "id", None, ("id",))
    splits = _splits(folder, info, options.tfds)
    test_share = options.test_share if len(info.get("splits", [])) == 1 else None
    listing = LazyUtterances(
        functools.partial(_utterances, folder, audio, splits, text, speaker, utterance_id, test_share)
    )
    licence = info.get("redistributionInfo", {}).get("license") or "unknown (see the data set's own page)"
    attribution = " ".join((info.get("citation") or f"TensorFlow Datasets, {name}").split())
    full_name = f"tfds:{folder.relative_to(data_dir).as_posix()}"
    return checked(Corpus(full_name, licence, attribution, listing), f"examples in {folder}")


def _utterances(
    folder: Path,
    audio: Callable[..., TfdsAudio],
    splits: tuple[str, ...],
    text: str,
    speaker: str | None,
    utterance_id: str | None,
    test_share: float | None,
) -> Iterator[Utterance]:
    wanted = tuple(sorted({name for name in (text, speaker, utterance_id) if name is not None}))
    for split in splits:
        source = data_source(folder, split, wanted)
        labels = _labels(source, speaker)
        for index in range(len(source)):
            recording = audio(split=split, index=index)
            name, said_by, words = f"{split}-{index:08d}", "unknown", ""
            try:
                example = read_example(source, index, recording.name)
            except UnusableError as error:
                fault = Fault(error.fault, str(error))
            else:
                name = name if utterance_id is None else _as_text(example[utterance_id])
                words, fault = transcript(_as_bytes(example[text]), f"{recording.name}: {text}")
                words = words.lower() if source.dataset_info.name in _CAPITALS else words
                said_by = said_by if speaker is None else _as_text(example[speaker])
                said_by = labels[int(said_by)] if labels and int(said_by) >= 0 else said_by
            own_split = split_of(split) if test_share is None else held_out_split(name, test_share)
            yield Utterance(name, recording, words, said_by, own_split, fault)


def _labels(source: Any, speaker: str | None) -> Sequence[str]:
    """The names of the speakers, where the data holds their numbers."""
    feature = source.dataset_info.features[speaker] if speaker is not None else None
    return getattr(feature, "names", None) or ()


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _version_folder(data_dir: Path, name: str) -> Path:
    folder = data_dir / name
    if name and folder.is_dir():
        if (folder / "dataset_info.json").is_file():
            return folder
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        versions = [child for child in children if (child / "dataset_info.json").is_file()]
        if versions:
            return max(versions, key=lambda child: [int(part) for part in child.name.split(".") if part.isdecimal()])
        configs = [child for child in children if any(child.glob("*/dataset_info.json"))]
        if len(configs) == 1:
            return _version_folder(data_dir, f"{name}/{configs[0].name}")
        if configs:
            choices = ", ".join(f"tfds:{name}/{config.name}" for config in configs)
            raise InputError(f"{folder}: holds several configurations; expected one of {choices}")
    prepare = f"tfds.builder({name!r}, data_dir={str(data_dir)!r}, file_format='array_record').download_and_prepare()"
    raise InputError(
        f"{folder}: no prepared data set there; name another folder with the option tfds.data-dir, or prepare it with: "
        f'python -c "import tensorflow_datasets as tfds; {prepare}" (needs tensorflow)'
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); prepare the data set again") from None


def _splits(folder: Path, info: dict[str, Any], options: TfdsOptions) -> tuple[str, ...]:
    there = [split["name"] for split in info.get("splits", [])]
    for name in options.splits:
        if name not in there:
            raise InputError(f"{folder}: there is no split {name!r}; expected {', '.join(there)}")
    return options.splits or tuple(there)


def _feature(
    folder: Path, features: dict[str, Any], what: str, chosen: str | None, usual: tuple[str, ...]
) -> str | None:
    if chosen is not None and chosen not in features:
        raise InputError(f"{folder}: there is no feature {chosen!r} for {what}; expected {', '.join(sorted(features))}")
    return chosen or next((name for name in usual if name in features), None)


def _audio_feature(folder: Path, features: dict[str, Any], options: TfdsOptions) -> Callable[..., TfdsAudio]:
    """Makes the audio of an example from split and index; the rest comes from the data set and the options."""
    found = sorted(name for name, feature in features.items() if "audio" in feature)
    name = _feature(folder, features, "audio", options.audio, tuple(found) if len(found) == 1 else ())
    if name is None:
        choices = ", ".join(found) or f"none of {', '.join(sorted(features))} is one"
        raise InputError(f"{folder}: expected one audio feature ({choices}); name it with the option tfds.audio")
    stored = features[name].get("audio") or features[name].get("tensor")
    if stored is None or stored.get("encoding", "none").lower() != "none":
        raise InputError(f"{folder}: feature {name!r} can't be read as audio; expected an Audio or Tensor, not encoded")
    full_scale = options.full_scale or (1.0 if stored["dtype"].startswith("float") else 32768.0)
    rate = options.sample_rate or int(stored.get("sampleRate", 0)) or None
    if rate is None and not stored.get("lazyDecode"):
        raise InputError(f"{folder}: feature {name!r} tells no sampling rate; give it with the option tfds.sample-rate")
    return functools.partial(TfdsAudio, folder=folder, feature=name, sample_rate=rate, full_scale=full_scale)
