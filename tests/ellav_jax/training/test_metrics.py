"""The log line and metrics.jsonl."""

import json

from ellav_jax.training.metrics import MetricsWriter, log_line, read_metrics

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
}


def test_the_log_line_is_the_documented_one():
    assert log_line(1200, 320_000, VALUES) == (
        "step 1200/320000  loss 3.412  acc 0.250  lr 1.9e-05  grad 0.71  23.0 ms/step  5.7M pos/s (97.8% real)  "
        "58.2k audio-s/s  189 TFLOP/s/dev  MFU 41.2%  eta 2h02m12s"
    )


def test_an_unknown_peak_has_no_mfu():
    without = {name: value for name, value in VALUES.items() if name != "mfu"}
    assert "MFU n/a" in log_line(1, 2, without)


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
