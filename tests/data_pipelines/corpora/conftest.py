"""Real speech to lay corpora out with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.corpora.bundled import FOLDER


@pytest.fixture(scope="session")
def clips() -> list[np.ndarray]:
    """Eight bundled clips of 1-5 s at 16 kHz, int16 [S]."""
    paths = sorted((FOLDER / "clips").iterdir())[:8]
    return [soundfile.read(path, dtype="int16")[0] for path in paths]


@pytest.fixture
def put(clips: list[np.ndarray]) -> Callable[..., Path]:
    """Writes a clip, or a text, below a folder: `put(path, 3)`, `put(path, "hello")`, `put(path, b"...")`."""

    def write(path: Path, content: int | str | bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            options = {"format": "OGG", "subtype": "OPUS"} if path.suffix.lower() == ".opus" else {}
            soundfile.write(path, clips[content], 16000, **options)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
