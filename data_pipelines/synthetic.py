"""Data sets of speech's lengths and random content, of any size: what measures packing and loading."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.records import FORMAT, SCHEMA_VERSION, Dataset, Record, ShardFile, shard_name
from ellav_jax.codec.config import NUM_CODEBOOKS
from ellav_jax.files import write_json
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.vocabulary import NUM_CODES

FRAME_RATE = 75
_AT_ONCE = 1 << 20


def sample_lengths(utterances: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Phones and frames (int32 [N]) of utterances shaped as LibriSpeech's: 1 to 25 s, mean 12.3 s, mode near 15 s.

    Seconds: 50 % normal(14.8, 1.2), as where sentences are joined up to a limit; 49 % 1 + 15 · beta(1.6, 1.2); 1 %
    uniform in 16 … 25. Phones a second: normal(10.5, 1) for each utterance.
    """
    # In pieces, so that the sampling of millions needs little memory beside its result.
    pieces = [
        _sample(min(_AT_ONCE, utterances - first), np.random.default_rng([seed, first]))
        for first in range(0, utterances, _AT_ONCE)
    ]
    phones, frames = zip(*pieces, strict=True)
    return np.concatenate(phones), np.concatenate(frames)


def _sample(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kind_N = rng.random(count)
    seconds_N = np.select(
        [kind_N < 0.5, kind_N < 0.99],
        [rng.normal(14.8, 1.2, count), 1 + 15 * rng.beta(1.6, 1.2, count)],
        rng.uniform(16, 25, count),
    ).clip(1, 25)
    phones_N = np.rint(seconds_N * rng.normal(10.5, 1, count)).clip(1).astype(np.int32)
    return phones_N, np.rint(seconds_N * FRAME_RATE).astype(np.int32)


def write_synthetic(out: Path, utterances: int, seed: int = 0, shards: int = 8) -> Dataset:
    """Writes and opens a data set of one split, train: lengths by `sample_lengths`, phones and codes at random."""
    out.mkdir(parents=True, exist_ok=True)
    frontend = default_frontend()
    files = [ShardFile(out / shard_name("train", shard, shards)) for shard in range(shards)]
    for index, record in enumerate(_records(utterances, len(frontend.phones), seed)):
        files[index % shards].write(record)
    contents = [file.close() for file in files]
    lengths = {
        f"train/{name}": np.concatenate([getattr(one, f"{name}_N") for one in contents])
        for name in ("ids", "phones", "frames")
    }
    np.savez(out / "lengths.npz", **lengths)
    frontend.to_json(out / "frontend.json")
    split = {
        "utterances": utterances,
        "shards": [one.line for one in contents],
    }
    description = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "corpus": {"name": "synthetic"},
        "codec": {"name": "random", "sha256": "", "frame_rate": FRAME_RATE},
        "phones": list(frontend.phones),
        "splits": {"train": split},
    }
    write_json(out / "dataset.json", description)
    return Dataset.open(out)


def _records(utterances: int, num_phones: int, seed: int) -> Iterator[Record]:
    rng = np.random.default_rng([seed, utterances])
    phones_N, frames_N = sample_lengths(utterances, seed)
    for index, (phones, frames) in enumerate(zip(phones_N.tolist(), frames_N.tolist(), strict=True)):
        ends = np.append(np.sort(rng.choice(frames - 1, phones - 1, replace=False)) + 1, frames)
        yield Record(
            id=f"synthetic-{seed}-{index:07d}",
            text="",
            speaker="",
            phones_N=rng.integers(0, num_phones, phones, np.uint16),
            durations_N=np.diff(ends, prepend=0).astype(np.int32),
            codes_Tx8=rng.integers(0, NUM_CODES, (frames, NUM_CODEBOOKS), np.uint16),
        )
