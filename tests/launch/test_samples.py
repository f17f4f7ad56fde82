"""Samples of models in training: real utterances continued by small models, and heard through the codec."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from configs.experiment import Experiment, find_experiment
from configs.trained import define_model
from data_pipelines.records import Dataset, Record
from ellav_jax.codec import load_codec
from ellav_jax.errors import InputError
from launch.samples import Clip, Samples, SamplesConfig, choose_records, load_sample_codec

HOP = 320
ROOT = Path(__file__).parents[2]
# Process I of two: half of the parameters lie on each.
SCRIPT = """
import sys
from pathlib import Path
import jax
port, process, experiment, nar, data, out = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from configs.experiment import find_experiment
from configs.trained import define_model
from data_pipelines.records import Dataset
from launch.samples import Samples, SamplesConfig
experiment, dataset = find_experiment(experiment), Dataset.open(data)
definition = define_model(experiment, len(dataset.frontend.phones))
mesh = jax.make_mesh((2,), ("fsdp",), devices=jax.devices())

def halves(leaf):
    split = leaf.ndim and leaf.shape[-1] % 2 == 0
    return NamedSharding(mesh, P(*[None] * (leaf.ndim - 1), "fsdp") if split else P())

params = jax.jit(definition.init, out_shardings=jax.tree.map(halves, definition.shapes))(jax.random.key(3))
assert not jax.tree.leaves(params)[-1].is_fully_addressable
config = SamplesConfig(every=1, utterances=1, nar=Path(nar))
samples = Samples(config, experiment, dataset, Path(out), print).speak(params, 1)
assert len(samples) == (process == "0")
np.save(Path(out) / f"{process}.npy", samples[0].waveform_S if samples else np.zeros(0))
"""


@pytest.fixture(scope="module")
def dataset(prepared_bundled) -> Dataset:
    return Dataset.open(prepared_bundled)


@pytest.fixture
def make(experiments, dataset, tmp_path):
    """`make("gar", nar=…)`: samples of the experiment, and fresh parameters for them; `make.said` has the lines."""

    def call(kind: str, experiment: Experiment | None = None, **choices):
        experiment = experiment or find_experiment(f"{experiments}:{kind}")
        definition = define_model(experiment, len(dataset.frontend.phones))
        config = SamplesConfig(every=5, **{"utterances": 1} | choices)
        samples = Samples(config, experiment, dataset, tmp_path, call.said.append)
        return samples, jax.jit(definition.init)(jax.random.key(3))

    call.said = []
    return call


def _first_clip(dataset) -> Clip:
    return Clip.of(choose_records(dataset, 1)[0], 75)


def test_a_gar_alone_is_heard_from_layer_1_and_goes_by_its_parameters(make, dataset, tmp_path):
    samples, params = make("gar")
    assert samples.every == 5
    [first] = samples.speak(params, 10)
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"10-0.wav", "reference-0.wav"}
    heard_S, rate = soundfile.read(tmp_path / "samples" / "10-0.wav")
    assert rate == first.sample_rate == 24_000
    assert np.abs(heard_S - np.clip(first.waveform_S, -1, 1)).max() < 1e-4
    assert len(heard_S) % HOP == 0
    assert len(heard_S) > 0
    assert first.picture_HxWx3.dtype == np.uint8
    assert first.picture_HxWx3.std() > 10
    reference_S, _ = soundfile.read(tmp_path / "samples" / "reference-0.wav")
    assert len(reference_S) == HOP * len(_first_clip(dataset).codes_Tx8)
    assert make.said[0].startswith(f"step 10  samples: 1 in {tmp_path / 'samples'} (layer 1 alone, coarse), ")
    # One seed at every step: what differs is the model.
    [again] = samples.speak(params, 15)
    assert np.array_equal(again.waveform_S, first.waveform_S)
    [other] = samples.speak(jax.tree.map(lambda leaf: leaf * 1.5, params), 20)
    assert not np.array_equal(other.waveform_S, first.waveform_S)


@pytest.mark.slow
def test_a_nar_speaks_the_true_layer_1_behind_the_true_prompt(make, dataset, monkeypatch, tmp_path):
    samples, params = make("nar", utterances=2)
    decoded = []
    decode = samples._codec.decode
    monkeypatch.setattr(samples._codec, "decode", lambda codes: decoded.append(codes) or decode(codes))
    first, second = samples.speak(params, 1)
    files = {path.name for path in (tmp_path / "samples").iterdir()}
    assert files == {"1-0.wav", "1-1.wav", "reference-0.wav", "reference-1.wav"}
    assert (first.name, second.name) == ("0", "1")
    record = choose_records(dataset, 1)[0]
    given = len(_first_clip(dataset).prompt.codes_Tx8)
    codes_Tx8 = decoded[0]
    assert np.array_equal(codes_Tx8[:, 0], record.codes_Tx8[:, 0])
    assert np.array_equal(codes_Tx8[:given], record.codes_Tx8[:given])
    assert not np.array_equal(codes_Tx8[given:], record.codes_Tx8[given:])  # untrained
    assert np.array_equal(first.waveform_S, load_codec("bundled").decode(codes_Tx8)[given * HOP :])
    assert "(all 8 layers)" in make.said[0]


@pytest.mark.slow
def test_a_gar_with_a_nar_is_heard_in_all_layers(make, trained):
    samples, params = make("gar", nar=trained("nar"))
    [full] = samples.speak(params, 1)
    coarse, _ = make("gar")
    [alone] = coarse.speak(params, 1)
    assert full.waveform_S.shape == alone.waveform_S.shape  # the same layer 1
    assert not np.allclose(full.waveform_S, alone.waveform_S, atol=1e-3)
    assert "(all 8 layers)" in make.said[0]


@pytest.mark.slow
def test_parameters_in_pieces_on_two_processes_are_heard_as_whole_ones(make, trained, experiments, dataset, tmp_path):
    samples, params = make("gar", nar=trained("nar"))
    [alone] = samples.speak(params, 1)
    (tmp_path / "two").mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    arguments = [f"{experiments}:gar", trained("nar"), dataset.path, tmp_path / "two"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(port), str(process), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in (0, 1)
    ]
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said[-3000:]
    assert len(np.load(tmp_path / "two" / "1.npy")) == 0
    assert np.array_equal(np.load(tmp_path / "two" / "0.npy"), alone.waveform_S)


def test_the_coarse_codec_is_the_package_s_decoder_at_one_codebook(dataset):
    import torch

    codes_Tx8 = choose_records(dataset, 1)[0].codes_Tx8[:60].astype(np.int32)
    package = load_codec("encodec:bundled")
    with torch.inference_mode():
        wanted_S = package.model.decode([(torch.from_numpy(codes_Tx8[:, :1].T.astype(np.int64))[None], None)])[0, 0]
    codec = load_sample_codec(dataset, coarse=True)
    for rest in (np.zeros((60, 7), np.int32), codes_Tx8[:, 1:]):  # it does not hear them
        heard_S = codec.decode(np.concatenate([codes_Tx8[:, :1], rest], axis=1))
        assert np.abs(heard_S - wanted_S.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("durations", "cut"),
    [
        ([100, 100, 100, 300], 2),  # 3 s are 225 frames
        ([40, 30, 30], 1),  # half of it
        ([90, 5, 5], 1),  # a phone at least
        ([1, 1], 1),
    ],
)
def test_an_utterance_is_cut_at_a_phone_s_end(durations, cut):
    durations_N = np.array(durations, np.int32)
    codes_Tx8 = np.arange(durations_N.sum() * 8).reshape(-1, 8).astype(np.uint16)
    record = Record("a", "text", "s", np.arange(len(durations)).astype(np.uint16), durations_N, codes_Tx8)
    clip = Clip.of(record, 75)
    assert len(clip.prompt.phones_P) == cut
    assert clip.prompt.durations_P.sum() == len(clip.prompt.codes_Tx8)
    assert clip.durations_N.sum() == len(clip.codes_Tx8)
    assert np.array_equal(np.concatenate([clip.prompt.codes_Tx8, clip.codes_Tx8]), codes_Tx8)
    assert np.array_equal(np.concatenate([clip.prompt.phones_P, clip.phones_N]), record.phones_N)


def test_the_utterances_are_held_out_and_next_to_six_seconds(dataset):
    chosen = choose_records(dataset, 3)
    assert {one.id for one in chosen} <= set(dataset.ids("test"))
    _, frames_N = dataset.lengths("test")
    farthest = max(abs(one.num_frames - 450) for one in chosen)
    assert np.sum(np.abs(frames_N - 450) < farthest) <= 2
    assert len(choose_records(dataset, 10_000)) == len(dataset.ids("test"))


@pytest.mark.slow
def test_what_does_not_go_together_is_refused(make, trained, experiments):
    with pytest.raises(InputError, match="this run trains a NAR"):
        make("nar", nar=trained("nar"))
    with pytest.raises(InputError, match="holds a GAR, expected a NAR"):
        make("gar", nar=trained("gar"))
    gar = find_experiment(f"{experiments}:gar")
    ahead = dataclasses.replace(gar, layout=dataclasses.replace(gar.layout, local_advance=2))
    with pytest.raises(InputError, match="local advance of 0 frames, this run of 2"):
        make("gar", ahead, nar=trained("nar"))
    with pytest.raises(InputError, match=r"samples\.utterances must be 1 or more"):
        SamplesConfig(utterances=0)
