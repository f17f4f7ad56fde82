"""Choices of how a corpus is read."""

import dataclasses
from pathlib import Path

from ellav_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class TfdsOptions:
    """How a data set of TensorFlow Datasets is read; what is None is found by itself, or refused with what there is."""

    data_dir: Path | None = None
    """Folder of the prepared data sets (None: $TFDS_DATA_DIR, else ~/tensorflow_datasets)."""
    splits: tuple[str, ...] = ()
    """Splits to read, by TFDS's names (none: all)."""
    audio: str | None = None
    """Feature that holds the recording."""
    text: str | None = None
    """Feature that holds the transcript."""
    speaker: str | None = None
    """Feature that names the speaker."""
    sample_rate: int | None = None
    """Sampling rate in Hz, where the audio feature doesn't tell it."""
    full_scale: float | None = None
    """The value in the data that is full scale (None: 1 for floats, 32768 for integers)."""


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read."""

    test_share: float = 0.01
    """Share of the utterances held out as `test` where the corpus has no splits of its own, chosen by a hash of the id."""
    lower_case: bool = False
    """Take all transcripts in lower case: for those in capitals only, whose short words pass for initials."""
    audio_root: Path | None = None
    """Folder that the paths in a manifest are relative to (None: the manifest's own)."""
    tfds: TfdsOptions = TfdsOptions()

    def __post_init__(self) -> None:
        """Raises InputError for a test_share outside [0, 1), and for a sample rate or full scale that isn't above 0."""
        if not 0 <= self.test_share < 1:
            raise InputError(f"test_share is {self.test_share:g}, expected at least 0 and less than 1")
        for name in ("sample_rate", "full_scale"):
            value = getattr(self.tfds, name)
            if value is not None and not value > 0:
                raise InputError(f"tfds.{name} is {value:g}, expected above 0")
