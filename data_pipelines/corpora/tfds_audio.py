"""Recordings inside data sets that TensorFlow Datasets prepared."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.audio import decode_audio, usable_waveform
from ellav_jax.errors import InputError, UnusableError

_FEATURES = "tensorflow_datasets.core.features"


@dataclasses.dataclass(frozen=True)
class TfdsAudio:
    """One example's audio.

    folder: of the prepared data set, with its dataset_info.json. index: in the split. sample_rate: in Hz; of no use
    where sound files are stored as they are. full_scale: the value that becomes 1. TFDS takes integers over as they are
    in the sound files, so an int64 or int32 holds 16-bit values as a rule: the declared dtype doesn't tell.
    """

    folder: Path
    split: str
    index: int
    feature: str
    sample_rate: int | None
    full_scale: float

    @property
    def name(self) -> str:
        return f"{self.folder}:{self.split}[{self.index}]"

    def read(self, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
        """Waveform float32 [S] in [-1, 1] (the mean of the channels) and its rate in Hz.

        Raises UnusableError as `read_audio`, and audio-unreadable for samples beyond full scale.
        """
        source = data_source(self.folder, self.split, (self.feature,))
        value = read_example(source, self.index, self.name)[self.feature]
        if isinstance(value, bytes):
            return decode_audio(value, self.name, max_seconds)
        samples = np.asarray(value)
        if max_seconds is not None and len(samples) > int(max_seconds * self.sample_rate):
            raise UnusableError(
                "audio-too-long",
                f"{self.name}: lasts {len(samples) / self.sample_rate:.1f} s, expected at most {max_seconds:g} s; "
                "cut it up",
            )
        samples_SxC = samples.reshape(len(samples), -1).astype(np.float64)
        peak = np.abs(samples_SxC).max(initial=0)
        if np.issubdtype(samples.dtype, np.integer) and peak > self.full_scale:
            raise UnusableError(
                "audio-unreadable",
                f"{self.name}: samples reach {peak:.0f}, full scale is {self.full_scale:.0f}; give the right one with the "
                "option tfds.full-scale",
            )
        return usable_waveform((samples_SxC / self.full_scale).astype(np.float32), self.name), self.sample_rate

    def stamp(self) -> Any:
        return [*_split_stamp(self.folder, self.split), self.index, self.sample_rate, self.full_scale]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "tfds", **dataclasses.asdict(self), "folder": str(self.folder.absolute())}


@functools.lru_cache(maxsize=64)
def data_source(folder: Path, split: str, features: tuple[str, ...]) -> Any:
    """TFDS's data source over a split of the data set in `folder`, whose examples hold `features` alone."""
    from google.protobuf import json_format
    from tensorflow_datasets.core import dataset_info, read_only_builder

    stored = {name: _as_stored(feature) for name, feature in read_features(folder).items() if name in features}
    content = {"pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict", "featuresDict": {"features": stored}}
    info = dataset_info.read_proto_from_builder_dir(folder)
    json_format.ParseDict(content, info.features)
    builder = read_only_builder.builder_from_metadata(folder, info)
    return builder.as_data_source(split=split)


def read_example(source: Any, index: int, name: str) -> dict[str, Any]:
    """The example at `index` of a data source; `name` is for messages.

    Raises UnusableError (audio-unreadable) when its record is damaged or its file is missing.
    """
    from google.protobuf.message import DecodeError

    try:
        return source[index]
    except (RuntimeError, DecodeError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UnusableError("audio-unreadable", f"{name}: {reason:.200}; prepare the data set again") from None


@functools.lru_cache(maxsize=64)
def read_features(folder: Path) -> dict[str, Any]:
    """The features of a prepared data set by name, as features.json describes them.

    Raises InputError when that can't be read, or was written by a TFDS before 4.4.
    """
    path = folder / "features.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["featuresDict"]["features"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no description of features that can be read ({type(error).__name__}: {error}); prepare the data set "
            "again with a newer tensorflow_datasets"
        ) from None


@functools.lru_cache(maxsize=64)
def _split_stamp(folder: Path, split: str) -> tuple[str, ...]:
    """What changes when a split is prepared anew with other contents: its size in bytes, and those of its shards."""
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    found = next((one for one in info["splits"] if one["name"] == split), {})
    return (info.get("version", ""), split, found.get("numBytes", ""), ",".join(found.get("shardLengths", [])))


def _as_stored(feature: dict[str, Any]) -> dict[str, Any]:
    """An Audio feature as the plain tensor, or the string of bytes, that it is stored as; others as they are."""
    audio = feature.get("audio")
    if audio is None:
        return feature
    shape, dtype = ({}, "object") if audio.get("lazyDecode") else (audio["shape"], audio["dtype"])
    tensor = {"shape": shape, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{_FEATURES}.tensor_feature.Tensor", "tensor": tensor}
