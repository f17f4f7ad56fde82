"""The command on a few bundled recordings: its files, its continuation, its errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from data_pipelines.corpora import open_corpus
from ellav_jax.codec import load_codec_weights
from ellav_jax.errors import InputError
from launch.codec_recordings import open_recordings
from launch.train_codec import main

SMALL = ["--segments.seconds", "0.2", "--segments.batch", "1", "--log-every", "1", "--adversary-from", "1000"]


@pytest.fixture(scope="module", autouse=True)
def torch_threads():
    """The command sets them, for this process too."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders, one within the other: three recordings, and one that is silent."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "inner").mkdir()
    for number, utterance in enumerate(open_corpus("bundled").utterances[:90:30]):
        wave, rate = utterance.audio.read()
        soundfile.write(folder / ("inner" if number else ".") / f"{number}.flac", wave, rate)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    return folder


def test_a_run_writes_a_codec_and_continues(recordings, tmp_path, capsys):
    command = [str(recordings), "--out", str(tmp_path / "run"), "--held-out", str(recordings / "inner"), *SMALL]
    main([*command, "--steps", "1"])
    first = (tmp_path / "run" / "codec.safetensors").read_bytes()
    main([*command, "--steps", "2"])
    assert (tmp_path / "run" / "codec.safetensors").read_bytes() != first
    assert load_codec_weights(str(tmp_path / "run" / "codec.safetensors")).config.filters == 16
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "waveform" in line] == [1, 2]
    assert [line["step"] for line in log if "held_out_mel" in line] == [1, 2]
    starts = [json.loads(line) for line in (tmp_path / "run" / "starts.jsonl").read_text().splitlines()]
    assert [start["step"] for start in starts] == [0, 1]
    assert starts[0]["sources"][0]["recordings"] == 3
    out = capsys.readouterr()
    assert out.out.count("silent.wav: silent") == 2  # told at each start
    assert out.err.count("decoding") > 0
    assert "the averaged weights after 2 steps\n" in out.out


def test_recordings_are_decoded_again_when_one_has_changed(recordings, tmp_path, capsys):
    seconds = sum(soundfile.info(path).duration for path in recordings.rglob("*.flac"))
    first = open_recordings(f"{recordings}:0.5", tmp_path)
    assert (first.weight, first.count, len(first.unusable)) == (0.5, 3, 1)
    assert first.minutes * 60 == pytest.approx(seconds, abs=0.01)
    capsys.readouterr()
    assert open_recordings(str(recordings), tmp_path).weight is None
    assert "decoding" not in capsys.readouterr().err
    more = recordings / "more.flac"
    soundfile.write(more, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    try:
        assert open_recordings(str(recordings), tmp_path).count == 4
    finally:
        more.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no recordings; give folders"),
        (["{recordings}/none"], r"recordings0/none: no such folder"),
        (["{empty}"], "no recordings in it"),
        (["{recordings}:0"], "the weight is 0, expected a number above 0"),
        (["{recordings}:2", "{recordings}/inner"], "give all of them a weight"),
        (["{recordings}", "--start", "nowhere.safetensors"], "nowhere.safetensors'?: no such file"),
    ],
)
def test_errors_say_what_to_do(recordings, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    filled = [one.format(recordings=recordings, empty=tmp_path / "empty") for one in arguments]
    with pytest.raises(InputError, match=message):
        main([*filled, "--out", str(tmp_path / "run")])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_a_checkpoint_and_a_second_process_is_refused(recordings, tmp_path, number):
    code = "import sys; from launch.train_codec import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, str(recordings), "--out", str(tmp_path), *SMALL, "--steps", "100000"]
    with subprocess.Popen(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("step 2 "):
                break
        with pytest.raises(InputError, match="another process trains in it"):
            main([str(recordings), "--out", str(tmp_path), *SMALL])
        run.send_signal(number)
        begin = time.monotonic()
        rest = run.stdout.read()
        assert run.wait(timeout=60) == 0
    assert time.monotonic() - begin < 60
    assert "the same command continues" in rest
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    main([str(recordings), "--out", str(tmp_path), *SMALL, "--steps", str(steps[-1] + 1)])
    starts = [json.loads(line)["step"] for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert starts == [0, steps[-1]]
