"""`ellav inspect DATASET`: what a data set holds, without a device."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from data_pipelines.records import Dataset, Record
from ellav_jax.errors import FAULTS, InputError

WIDTH = 100
"""Characters a line of the pictures."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Shows what a data set holds: totals, phones a second, lengths; or one utterance, its phones over its frames."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATASET")]
    """Folder that `ellav prepare` wrote."""
    utterance: str | None = None
    """Id of an utterance to show."""
    split: str | None = None
    """Only this split (default: all)."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command. Raises InputError for what isn't a data set, and for an unknown split or utterance."""
    args = tyro.cli(Arguments, args=arguments, prog="ellav inspect")
    dataset = Dataset.open(args.path)
    splits = dataset.splits if args.split is None else (args.split,)
    if args.utterance is not None:
        split, record = _find(dataset, splits, args.utterance)
        print(describe_utterance(record, split, dataset))
        return
    print(describe_dataset(dataset))
    for split in splits:
        print()
        print(describe_split(dataset, split))


def describe_dataset(dataset: Dataset) -> str:
    """Corpus, terms of use, codec, frontend and counts of `dataset`."""
    info, frontend = dataset.info, dataset.frontend
    corpus, codec, counts = info["corpus"], info["codec"], info["utterances"]
    stress = "with stress" if frontend.stress else "without stress"
    silence = f"SIL from {frontend.silence_min_seconds:g} s" if frontend.silence_as_phone else "silence is no phone"
    lines = [
        f"data set   {dataset.path} (schema version {info['schema_version']})",
        f"corpus     {corpus['name']}, {corpus['licence']}: {corpus['attribution']}",
        (
            f"codec      {codec['name']}, {codec['sample_rate'] / 1000:g} kHz, {codec['frame_rate']} frames a second, "
            f"{codec['num_codebooks']} x {codec['codebook_size']} codes, sha256 {codec['sha256'][:12]}…"
        ),
        f"frontend   {len(frontend.phones)} phones {stress}, {frontend.dictionary}, {frontend.aligner}, {silence}",
        f"found      {counts['found']} utterances = {counts['written']} written + {counts['quarantined']} quarantined",
    ]
    lines += [
        f"             {count:7d} x {fault}: {FAULTS.get(fault, '')}" for fault, count in counts["reasons"].items()
    ]
    return "\n".join(lines)


def describe_split(dataset: Dataset, split: str) -> str:
    """Totals of a split and a histogram of its durations."""
    phones_N, frames_N = dataset.lengths(split)
    info, rate = dataset.info["splits"][split], dataset.info["codec"]["frame_rate"]
    seconds_N = frames_N / rate
    lines = [
        (
            f"{split}: {len(frames_N)} utterances, {info['speakers']} speaker{'s' * (info['speakers'] > 1)}, "
            f"{seconds_N.sum() / 3600:.2f} h, {len(info['shards'])} shards"
        ),
        (
            f"  {phones_N.sum()} phones, {frames_N.sum()} frames: {phones_N.sum() / seconds_N.sum():.1f} phones a second, "
            f"{frames_N.sum() / phones_N.sum():.1f} frames a phone"
        ),
        f"  shortest {seconds_N.min():.2f} s, median {np.median(seconds_N):.2f} s, longest {seconds_N.max():.2f} s",
    ]
    return "\n".join([*lines, *_histogram(seconds_N)])


def describe_utterance(record: Record, split: str, dataset: Dataset) -> str:
    """Text, then its phones over its frames: time, phones with a bar at each beginning, and layer-1 codes."""
    rate = dataset.info["codec"]["frame_rate"]
    phones = [dataset.frontend.phones[i] for i in record.phones_N]
    lines = [
        f"{record.id} ({split}, speaker {record.speaker}): {record.text}",
        (
            f"{record.num_phones} phones, {record.num_frames} frames, {record.num_frames / rate:.2f} s; "
            f"each character is one frame, each bar the beginning of a phone"
        ),
    ]
    track = _phone_track(phones, record.durations_N)
    for begin in range(0, record.num_frames, WIDTH):
        part = track[begin : begin + WIDTH]
        lines += ["", _ruler(begin, len(part), rate), part]
    lines += ["", "phone   frames      from s   codes of the first codebook"]
    begin = 0
    for phone, duration in zip(phones, record.durations_N.tolist(), strict=True):
        codes = " ".join(f"{code:4d}" for code in record.codes_Tx8[begin : begin + duration, 0][:12])
        more = " …" if duration > 12 else ""
        lines.append(f"{phone:<6}  {duration:6d}  {begin / rate:10.3f}   {codes}{more}")
        begin += duration
    return "\n".join(lines)


def _find(dataset: Dataset, splits: Sequence[str], utterance: str) -> tuple[str, Record]:
    for split in splits:
        ids = dataset.ids(split)
        if utterance in ids:
            return split, dataset.records(split)[ids.index(utterance)]
    example = dataset.ids(splits[0])[0]
    raise InputError(f"{dataset.path}: no utterance {utterance!r} in {', '.join(splits)}; ids look like {example!r}")


def _histogram(seconds_N: np.ndarray, bins: int = 10) -> list[str]:
    # Equal steps of the logarithm: durations of speech spread over two orders of magnitude.
    low, high = seconds_N.min(), max(seconds_N.max(), seconds_N.min() * 1.01)
    counts, edges = np.histogram(np.log(seconds_N), bins=np.linspace(np.log(low), np.log(high) + 1e-9, bins + 1))
    edges, most = np.exp(edges), counts.max()
    return [
        f"  {edges[i]:7.2f} - {edges[i + 1]:7.2f} s  {counts[i]:7d}  {'#' * int(np.ceil(50 * counts[i] / most))}"
        for i in range(bins)
    ]


def _phone_track(phones: Sequence[str], durations: np.ndarray) -> str:
    # Each phone fills its frames: a bar, its name as far as there is room, dots.
    return "".join(
        ("|" + phone.lower() if phone == "SIL" else "|" + phone)[:duration].ljust(duration, ".")
        for phone, duration in zip(phones, durations.tolist(), strict=True)
    )


def _ruler(begin: int, length: int, rate: int) -> str:
    line = [" "] * (length + 8)
    for frame in range(begin, begin + length):
        if frame % (rate // 3) == 0:
            label = f"'{frame / rate:.2f}s"
            line[frame - begin : frame - begin + len(label)] = label
    return "".join(line).rstrip()
