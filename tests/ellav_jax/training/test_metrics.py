"""The log line, metrics.jsonl, tensorboard and Weights & Biases."""

import io
import json
import struct
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from ellav_jax.errors import InputError
from ellav_jax.training.metrics import MetricsWriter, log_line, memory_figures, read_metrics
from ellav_jax.training.sample import Sample

VALUES = {
    "loss": 3.4119,
    "accuracy": 0.25,
    "grad_norm": 0.7149,
    "learning_rate": 1.9e-5,
    "seconds_per_step": 0.023,
    "positions_per_second": 5.7e6,
    "real_share": 0.978,
    "audio_seconds_per_second": 58_200.0,
    "tflops_per_device": 189.0,
    "mfu": 0.412,
    "host_rss_gib": 3.14159,
    "device_peak_gib": 61.5,
}


def test_the_log_line_is_the_documented_one():
    assert log_line(1200, 320_000, VALUES) == (
        "step 1200/320000  loss 3.412  acc 0.250  lr 1.9e-05  grad 0.71  23.0 ms/step  5.7M pos/s (97.8% real)  "
        "58.2k audio-s/s  189 TFLOP/s/dev  MFU 41.2%  host 3.14 GiB  device 61.50 GiB  eta 2h02m12s"
    )


def test_a_cpu_has_neither_mfu_nor_device_memory():
    without = {name: value for name, value in VALUES.items() if name not in ("mfu", "device_peak_gib")}
    assert "MFU n/a  host 3.14 GiB  eta" in log_line(1, 2, without)


def test_memory_is_that_of_this_process_and_of_its_fullest_device():
    def device(process_index, stats):
        return SimpleNamespace(process_index=process_index, memory_stats=lambda: stats)

    mine = [device(0, {"peak_bytes_in_use": gib * 2**30, "bytes_in_use": 1}) for gib in (3, 5)]
    other = device(1, {"peak_bytes_in_use": 70 * 2**30})
    assert memory_figures([*mine, other])["device_peak_gib"] == 5
    assert memory_figures([device(0, None), device(0, {})]).keys() == {"host_rss_gib"}
    before = memory_figures(jax.devices())
    assert before.keys() == {"host_rss_gib"}  # CPUs, which tests run on, tell nothing
    held = np.ones(2**27, np.uint8)  # written to, and so resident
    grown = memory_figures(jax.devices())["host_rss_gib"] - before["host_rss_gib"]
    assert grown == pytest.approx(held.nbytes / 2**30, rel=0.2)


def test_written_metrics_are_read_back_by_split_and_a_repeated_step_counts_once(tmp_path):
    for value in (1.0, 2.0):  # the second writer is a resumed run, which repeats step 2
        writer = MetricsWriter(tmp_path)
        for step in (2, 4) if value == 1.0 else (2, 6):
            writer.write(step, {"loss": value}, split="train")
        writer.write(2, {"loss": 9.0}, split="held_out")
        writer.close()
    entries = read_metrics(tmp_path / "metrics.jsonl", "train")
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(2, 2.0), (4, 1.0), (6, 2.0)]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0]) == {
        "step": 2,
        "split": "train",
        "loss": 1.0,
    }
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.fixture
def samples():
    """Two samples, of which the second is overdriven, as a model's may be."""
    tone_S = np.sin(np.arange(4800) / 20).astype(np.float32)
    picture_HxWx3 = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    return [Sample("0", 0.5 * tone_S, 24_000, picture_HxWx3), Sample("1", 3 * tone_S, 24_000, picture_HxWx3)]


def _events(directory):
    """The events of a tensorboard folder: its files are records of [length, checksum, bytes, checksum]."""
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_tensorboard_has_the_sound_and_the_picture_of_each_sample(tmp_path, samples, capsys):
    writer = MetricsWriter(tmp_path)
    writer.write_samples(70, samples)
    writer.close()
    values = [(event.step, value) for event in _events(tmp_path / "tensorboard") for value in event.summary.value]
    sounds = {value.tag: value.audio for step, value in values if value.HasField("audio") and step == 70}
    pictures = {value.tag: value.image for step, value in values if value.HasField("image") and step == 70}
    assert sounds.keys() == pictures.keys() == {"samples/0", "samples/1"}
    for one in samples:
        heard_S, rate = soundfile.read(io.BytesIO(sounds[f"samples/{one.name}"].encoded_audio_string))
        assert rate == 24_000
        assert np.abs(heard_S - np.clip(one.waveform_S, -1, 1)).max() < 1e-4
        seen = Image.open(io.BytesIO(pictures[f"samples/{one.name}"].encoded_image_string))
        assert np.array_equal(np.asarray(seen), one.picture_HxWx3)
    assert capsys.readouterr().out == ""  # no library's notice about clipping in the log


def test_only_process_0_writes(tmp_path, samples, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": 1.0}, split="train")
    writer.write_samples(1, samples)
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_missing_wandb_is_told_on_every_process(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        with pytest.raises(InputError, match=r"pip install 'ellav-jax\[wandb\]'"):
            MetricsWriter(tmp_path, wandb="project")
    assert not list(tmp_path.iterdir())
