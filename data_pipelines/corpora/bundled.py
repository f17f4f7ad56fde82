"""The corpus inside the package: 542 clips, 24 minutes, one speaker of American English."""

import csv
from pathlib import Path

from data_pipelines.corpora.utterance import AudioFile, Corpus, Utterance
from ellav_jax.errors import InputError

FOLDER = Path(__file__).parent / "bundled_speech"
LICENCE = "CC BY-SA 3.0"
ATTRIBUTION = (
    "© 2003-2010 Allison Smith (recorded by Allison Smith, theivrvoice.com; contributions by Digium); "
    "from Debian's asterisk-core-sounds-en-g722"
)


def open_bundled() -> Corpus:
    """The bundled corpus, in the order of its metadata.csv, with its own train/test split.

    Raises InputError when the installed package lacks its data.
    """
    metadata = FOLDER / "metadata.csv"
    try:
        with open(metadata, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"{metadata}: the bundled corpus is not installed; install ellav-jax again") from None
    utterances = [
        Utterance(
            id=Path(row["file"]).stem,
            audio=AudioFile(FOLDER / "clips" / row["file"]),
            text=row["text"],
            speaker=row["speaker"],
            split=row["split"],
        )
        for row in rows
    ]
    return Corpus(name="bundled", licence=LICENCE, attribution=ATTRIBUTION, utterances=utterances)
