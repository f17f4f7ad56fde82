"""`ellav train` on several data sets: their shares, what continues, and what does not go together."""

import json
import shutil

import numpy as np
import pytest

from launch import cli


def _part_of(prepared, out):
    """The first shard of the training split, as a data set of its own without a test split."""
    shutil.copytree(prepared, out)
    info = json.loads((out / "dataset.json").read_text())
    shard = info["splits"]["train"]["shards"][0]
    info["splits"] = {"train": {"utterances": shard["records"], "shards": [shard]}}
    info["corpus"]["name"] = "part"
    (out / "dataset.json").write_text(json.dumps(info))
    with np.load(out / "lengths.npz") as file:
        lengths = {name: array[: shard["records"]] for name, array in file.items() if name.startswith("train/")}
    np.savez(out / "lengths.npz", **lengths)
    return out


@pytest.fixture(scope="module")
def part(prepared_bundled, tmp_path_factory):
    # A name that looks like a name and a weight.
    return _part_of(prepared_bundled, tmp_path_factory.mktemp("data") / "part:1")


@pytest.fixture
def ellav_train(experiments, capsys):
    """`ellav_train(workdir, *data)` → exit status and what is printed (stdout, or the error's one line)."""

    def run(workdir, *data, options=()):
        capsys.readouterr()
        sources = [argument for one in data for argument in ("--data", str(one))]
        status = cli.main(["train", f"{experiments}:gar", "--workdir", str(workdir), *sources, *options])
        out, err = capsys.readouterr()
        assert status == 0 or err.count("\n") == 1
        return status, out if status == 0 else err

    return run


def test_a_run_is_evaluated_on_dev_where_there_is_one(ellav_train, prepared_bundled, tmp_path):
    out = tmp_path / "dev"
    shutil.copytree(prepared_bundled, out)
    info = json.loads((out / "dataset.json").read_text())
    info["splits"]["dev"] = info["splits"].pop("test")
    (out / "dataset.json").write_text(json.dumps(info))
    with np.load(out / "lengths.npz") as file:
        lengths = {name.replace("test/", "dev/"): array for name, array in file.items()}
    np.savez(out / "lengths.npz", **lengths)
    figures = [ellav_train(tmp_path / f"w{i}", data)[1] for i, data in enumerate((prepared_bundled, out))]
    ours, theirs = (next(line for line in text.splitlines() if "held out" in line) for text in figures)
    assert ours == theirs


def test_a_mixture_trains_in_its_shares_and_is_continued_as_it_was(ellav_train, prepared_bundled, part, tmp_path):
    mixture = (f"{prepared_bundled}:0.6", f"{part}:0.2")
    status, out = ellav_train(tmp_path / "w", *mixture)
    assert status == 0
    lines = out.splitlines()
    assert [line.rpartition("; ")[2] for line in lines if " rows an epoch" in line] == [
        "75.0% of the rows drawn",
        "25.0% of the rows drawn",
    ]
    written = json.loads((tmp_path / "w" / "experiment.json").read_text())
    assert [(one["corpus"], one["share"]) for one in written["data"]] == [("bundled", "3/4"), ("part", "1/4")]

    # 6 : 2 is 3 : 1.
    status, out = ellav_train(tmp_path / "w", f"{prepared_bundled}:3", f"{part}:1", options=("--train.steps", "3"))
    assert status == 0
    assert "resumed at step 2, row 4" in out

    refused = {
        (f"{prepared_bundled}:3", f"{part}:2"): "in other shares (bundled 75.00%; part 25.00% there, bundled 60.00%; ",
        (prepared_bundled, part): "in other shares",
        (
            f"{part}:1",
            f"{prepared_bundled}:3",
        ): "the same data sets in another order (bundled 75.00%; part 25.00% there",
        (prepared_bundled,): f"on other utterances than those of {prepared_bundled} (",
        (part, f"{part}/../../{prepared_bundled.name}"): "no such data set",
    }
    for data, message in refused.items():
        status, error = ellav_train(tmp_path / "w", *data)
        assert status == 2
        assert message in error


def test_without_weights_shares_are_those_of_the_rows(ellav_train, prepared_bundled, part, tmp_path):
    status, out = ellav_train(tmp_path / "w", prepared_bundled, part)
    assert status == 0
    rows = [int(line.split(": ")[1].split()[0]) for line in out.splitlines() if " rows an epoch" in line]
    written = json.loads((tmp_path / "w" / "experiment.json").read_text())
    for one, own in zip(written["data"], rows, strict=True):
        numerator, denominator = map(int, one["share"].split("/"))
        assert numerator * sum(rows) == own * denominator


def test_data_that_does_not_go_together_is_refused(ellav_train, prepared_bundled, part, tmp_path):
    workdir = tmp_path / "w"
    frontend = shutil.copytree(part, tmp_path / "frontend")
    fields = json.loads((frontend / "frontend.json").read_text())
    (frontend / "frontend.json").write_text(json.dumps(fields | {"silence_min_seconds": 0.2}))
    codec = shutil.copytree(part, tmp_path / "codec")
    info = json.loads((codec / "dataset.json").read_text())
    (codec / "dataset.json").write_text(json.dumps(info | {"codec": info["codec"] | {"sha256": "0" * 64}}))
    no_train = shutil.copytree(part, tmp_path / "no_train")
    with np.load(no_train / "lengths.npz") as file:
        np.savez(no_train / "lengths.npz", **{name.replace("train", "dev"): array for name, array in file.items()})
    (no_train / "dataset.json").write_text(json.dumps(info | {"splits": {"dev": info["splits"]["train"]}}))
    cases = {
        (
            prepared_bundled,
            frontend,
        ): f"--data {frontend}, beside {prepared_bundled}, has another frontend: silence_min",
        (prepared_bundled, codec): f"--data {codec} holds codes of codec {{'name': 'bundled', 'sha256': '0000",
        (prepared_bundled, no_train): f"{no_train}: training wants a split train; it has dev",
        (part,): f"{part}: training wants a split dev or test as well, to evaluate on; there is none",
        (part, f"{prepared_bundled}:2"): "give all of them a weight, as in DIR:0.5, or none",
        (part, f"{prepared_bundled}:0"): "give all of them a weight, as in DIR:0.5, or none",
        (f"{part}:1", f"{prepared_bundled}:0"): "a data set has the weight 0; expected more than 0",
        (part, part): f"--data {part} is given twice",
        (f"{part}:0,5", prepared_bundled): f"{part}:0,5: no such data set",
        (): "no data set; give --data DIR",
    }
    for data, message in cases.items():
        status, error = ellav_train(workdir, *data)
        assert status == 2
        assert message in error
    assert not workdir.exists()
