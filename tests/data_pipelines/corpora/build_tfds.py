"""Builds data sets of TensorFlow Datasets below a folder, and stores what TFDS itself reads from them.

Run in a process of its own, because building needs TensorFlow: python build_tfds.py FOLDER CLIPS.npz
"""

import io
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile
import tensorflow_datasets as tfds

FOLDER, CLIPS = Path(sys.argv[1]), list(np.load(sys.argv[2]).values())
TEXTS = ["Hello.", "Grüße!", "", "Three.", "Four.", "Five."]


class SpokenConfig(tfds.core.BuilderConfig):
    """How a configuration stores the audio."""

    def __init__(self, name, audio, encode):
        super().__init__(name=name)
        self.audio, self.encode = audio, encode


def _file(samples, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, **options)
    buffer.seek(0)
    return buffer


class Spoken(tfds.core.GeneratorBasedBuilder):
    """Named as LibriSpeech's features are."""

    VERSION = tfds.core.Version("1.10.0")
    BUILDER_CONFIGS: ClassVar = [
        SpokenConfig(
            "flac",
            tfds.features.Audio(sample_rate=16000, dtype=np.int16, lazy_decode=True, file_format="flac"),
            lambda samples: _file(samples, format="FLAC"),
        ),
        SpokenConfig("int16", tfds.features.Audio(sample_rate=16000, dtype=np.int16), lambda samples: samples),
        SpokenConfig(
            "stereo",
            tfds.features.Audio(sample_rate=16000, shape=(None, 2)),
            lambda samples: np.stack([samples, samples // 2], axis=1).astype(np.int64),
        ),
        SpokenConfig(
            "wide",
            tfds.features.Audio(sample_rate=16000, dtype=np.int32),
            lambda samples: samples.astype(np.int32) << 8,
        ),
    ]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": np.str_,
                    "speech": self.builder_config.audio,
                    "text": tfds.features.Text(),
                    "speaker": tfds.features.ClassLabel(names=["anna", "ben"]),
                }
            ),
            license="CC BY 4.0",
            citation="@misc{spoken}",
        )

    def _split_generators(self, dl_manager):
        return {"train_clean": self._generate_examples(0, 4), "test_clean": self._generate_examples(4, 6)}

    def _generate_examples(self, first, last):
        for i in range(first, last):
            samples = self.builder_config.encode(CLIPS[i])
            yield i, {"id": f"utt-{i}", "speech": samples, "text": TEXTS[i], "speaker": i % 2}


class Plain(tfds.core.GeneratorBasedBuilder):
    """One split, other names, float audio without a rate, two text features, no id and no speaker."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "wave": tfds.features.Tensor(shape=(None,), dtype=np.float32),
                    "said": tfds.features.Text(),
                    "by": np.int64,
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, clip in enumerate(CLIPS[:3]):
            yield i, {"wave": clip.astype(np.float32) / 32768, "said": TEXTS[i], "by": 40 + i}


expected = {}
for config in ("flac", "int16", "stereo", "wide"):
    Spoken(config=config, data_dir=FOLDER, file_format="array_record").download_and_prepare()
    for split, source in tfds.data_source(f"spoken/{config}", data_dir=FOLDER).items():
        for index, example in enumerate(source):
            expected[f"{config}/{split}/{index}/id"] = example["id"].decode()
            if config != "flac":  # TFDS decodes files with ffmpeg, which isn't needed here
                expected[f"{config}/{split}/{index}/speech"] = example["speech"]
Plain(data_dir=FOLDER, file_format="array_record").download_and_prepare()
Plain(data_dir=FOLDER / "tfrecord", file_format="tfrecord").download_and_prepare()
Spoken.VERSION = tfds.core.Version("1.9.0")
Spoken(config="int16", data_dir=FOLDER, file_format="array_record").download_and_prepare()
np.savez(FOLDER / "expected.npz", **expected)
