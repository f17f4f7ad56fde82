"""`ellav export` and `ellav import` as a user meets them: there, back, and what is refused."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from configs import librispeech
from configs.trained import define_model, load_trained
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.models.definition import on_one_device
from ellav_jax.training.checkpoint import find_checkpoint, load_params, read_card, save_params
from launch import cli, export

ROOT = Path(__file__).parents[2]


def _run(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """An export of GAR, NAR and codec. Read only: copy it to change it."""
    out = tmp_path_factory.mktemp("exported") / "out"
    _run("export", "--gar", trained("gar"), "--nar", trained("nar"), "--codec", "bundled", out)
    return out


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copied")


def test_the_export_says_where_it_comes_from(exported):
    assert {path.name for path in exported.iterdir()} == {"gar", "nar", "codec", "README.md", "modeling_ellav.py"}
    config = json.loads((exported / "gar" / "config.json").read_text())
    assert (config["kind"], config["dtype"], config["codec"]["name"]) == ("gar", "float32", "bundled")
    origin = config["provenance"]
    assert (origin["step"], origin["weights"]) == (2, "last")
    assert origin["data"][0]["corpus"] == "bundled"
    assert origin["start"]["versions"]["ellav-jax"] == importlib.metadata.version("ellav-jax")
    card = (exported / "gar" / "README.md").read_text()
    assert re.search(r"trained on bundled\. CC BY-SA 3\.0\. © 2003-2010 Allison Smith", card)
    assert "| Step | 2 |" in card
    assert "2 layers of width 32, 2 heads, feed-forward 48; rmsnorm, swiglu, rotary positions" in card
    assert 'speaker = ellav.load(".")' in (exported / "README.md").read_text()


@pytest.mark.parametrize("kind", ["gar", "nar"])
def test_there_and_back_changes_no_bit(exported, trained, kind, tmp_path, capsys):
    _run("import", exported / kind, tmp_path / "W")
    assert f"{tmp_path / 'W' / 'checkpoints' / '2'}: {kind.upper()} of " in capsys.readouterr().out
    before, after = load_trained(trained(kind), kind), load_trained(tmp_path / "W", kind)
    jax.tree.map(np.testing.assert_array_equal, before.model.params, after.model.params)
    assert (after.experiment, after.frontend, after.codec) == (before.experiment, before.frontend, before.codec)
    # And out again: the same weights, and the way that they took.
    _run("export", f"--{kind}", tmp_path / "W", tmp_path / "again")
    again = tmp_path / "again" / kind
    assert (again / "model.safetensors").read_bytes() == (exported / kind / "model.safetensors").read_bytes()
    origin = json.loads((again / "config.json").read_text())["provenance"]
    assert origin["imported"] == json.loads((exported / kind / "config.json").read_text())["provenance"]
    assert "trained on bundled. CC BY-SA 3.0." in (again / "README.md").read_text()


def test_the_moving_average_goes_out_unless_the_last_weights_are_asked_for(trained, tmp_path, refused):
    checkpoint = find_checkpoint(trained("nar"))
    card = read_card(checkpoint)
    params = load_trained(checkpoint, "nar").model.params
    average = jax.tree.map(lambda leaf: 2 * leaf, params)
    ocp.save_checkpointables(tmp_path / "5", {"params": params, "ema": average}, custom_metadata=card)
    found = {}
    for name in ("auto", "last"):
        _run("export", "--nar", tmp_path / "5", tmp_path / name, "--weights", name)
        _run("import", tmp_path / name / "nar", tmp_path / f"W-{name}")
        loaded = load_trained(tmp_path / f"W-{name}", "nar").model.params
        found[name] = np.asarray(loaded["stage_embedding"])
        config = json.loads((tmp_path / name / "nar" / "config.json").read_text())
        assert config["provenance"]["weights"] == ("last" if name == "last" else "ema")
        assert config["provenance"]["step"] == 5
    np.testing.assert_array_equal(found["last"], params["stage_embedding"])
    np.testing.assert_array_equal(found["auto"], 2 * found["last"])
    error = refused("export", "--nar", checkpoint, tmp_path / "none", "--weights", "ema")
    assert "keeps no moving average (train.optimizer.ema-decay); export it with --weights last" in error
    assert not (tmp_path / "none").exists()


def test_fewer_bits_come_back_rounded(trained, tmp_path):
    _run("export", "--gar", trained("gar"), tmp_path / "out", "--dtype", "bfloat16")
    _run("import", tmp_path / "out" / "gar", tmp_path / "W")
    before, after = (load_trained(path, "gar").model.params for path in (trained("gar"), tmp_path / "W"))
    expected = jax.tree.map(lambda leaf: leaf.astype("bfloat16").astype("float32"), before)
    jax.tree.map(np.testing.assert_array_equal, after, expected)


def test_llama_and_the_hub_get_what_is_theirs(trained, tmp_path, monkeypatch, capsys):
    pushed = []
    monkeypatch.setattr(export, "push", lambda *arguments: pushed.append(arguments) or "https://example.org/a/b")
    out = tmp_path / "out"
    _run("export", "--gar", trained("gar"), out, "--llama", "--push", "a/b", "--private")
    assert json.loads((out / "llama" / "config.json").read_text())["hidden_size"] == 32
    assert pushed == [(out, "a/b", True)]
    assert capsys.readouterr().out.endswith("https://example.org/a/b\n")
    _run("export", "--gar", trained("gar"), out, "--llama")  # the same: nothing to overwrite


def test_what_cannot_be_exported_is_refused(trained, exported, tmp_path, refused):
    out = tmp_path / "out"
    gar = ["--gar", trained("gar")]
    for arguments, message in (
        ([out], "nothing to export; give --gar W, --nar W, --codec SPEC"),
        (["--nar", trained("gar"), out], "holds a GAR, expected a NAR"),
        (["--nar", trained("nar"), "--llama", out], "--llama writes a GAR"),
        ([*gar, "--data", tmp_path, out], "--data is for --verify alone"),
        ([*gar, "--private", out], "--private is for --push alone"),
        ([*gar, "--codec", exported / "codec", out], "knows the codes of codec bundled"),  # float32, so another file
        ([*gar, tmp_path], "not empty and not only an export of ellav"),
        ([*gar, exported], "holds another export (gar, nar, codec); replace all of it with --overwrite"),
    ):
        (tmp_path / "mine.txt").write_text("")
        assert message in refused("export", *arguments)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_checkpoint_is_refused_and_nothing_written(trained, tmp_path, refused):
    checkpoint = shutil.copytree(find_checkpoint(trained("gar")), tmp_path / "2")
    for path in (checkpoint / "params").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "holds no weights; its files are damaged" in refused("export", "--gar", checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_what_cannot_be_imported_is_refused_and_nothing_written(copied, tmp_path, refused):
    config, weights = copied / "gar" / "config.json", copied / "gar" / "model.safetensors"
    content, whole = json.loads(config.read_text()), weights.read_bytes()

    def changed(**fields):
        config.write_text(json.dumps(content | fields))
        weights.write_bytes(whole)

    for prepare, folder, message in (
        (lambda: None, copied, "holds gar and nar; name one of them"),
        (lambda: None, copied / "codec", "a codec needs no import; give the folder as --codec"),
        (lambda: None, tmp_path / "nowhere", "no such folder"),
        (lambda: weights.write_bytes(whole[:-8]), copied / "gar", "not a readable safetensors file"),
        (weights.unlink, copied / "gar", "no such file; expected the weights of an exported model"),
        (
            lambda: changed(layout={"order": "valle"}),
            copied / "gar",
            "layout is {'order': 'valle'}, but its experiment",
        ),
        (
            lambda: changed(codec="bundled"),
            copied / "gar",
            "lacks what ellav export says of experiment, codec and origin",
        ),
        (lambda: changed(experiment={"kind": "gar"}), copied / "gar", "not an experiment of this version of ellav-jax"),
        (
            lambda: (changed(), shutil.copy(copied / "nar" / "model.safetensors", weights)),
            copied / "gar",
            "weights do not fit the model: embedding.weight missing, expected [1068, 32]; ",
        ),
    ):
        prepare()
        assert message in refused("import", folder, tmp_path / "W")
        assert [path.name for path in tmp_path.iterdir()] == ["copied"]
    assert "is there already and not empty" in refused("import", copied / "nar", copied)


SPEAK = """
import sys
for name in ("jax", "numpy", "ellav_jax", "flax"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")
sys.path.insert(0, sys.argv[1])
import modeling_ellav as ellav
import torch
speaker = ellav.load(sys.argv[1])
prompt = speaker.prompt(0.1 * torch.randn(320 * 30), 24_000, ["HH", "AY", "SIL"], [10, 10, 10])
[speech] = speaker.speak([prompt], [["HH", "AH", "L", "OW"]], ellav.Sampling(seed=1))
assert speech.waveform.shape == (320 * len(speech.codes),) and speech.waveform.isfinite().all()
ellav.save(speaker.gar, sys.argv[2])
print(f"spoken: {len(speech.codes)} frames, ended {speech.finished}")
"""


def _with_requirements(name, found):
    if name in found:
        return
    found[name] = importlib.metadata.distribution(name)
    for line in found[name].requires or []:
        if "extra ==" not in line:
            try:
                _with_requirements(re.match(r"[\w.-]+", line)[0], found)
            except importlib.metadata.PackageNotFoundError:
                assert ";" in line  # for other platforms


@pytest.mark.slow
def test_the_export_speaks_where_there_is_torch_and_safetensors_alone(exported, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    found = {}
    for name in ("torch", "safetensors"):
        _with_requirements(name, found)
    assert not {"jax", "numpy"} & found.keys()
    for distribution in found.values():
        for top in {path.parts[0] for path in distribution.files if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    alone = shutil.copytree(exported, tmp_path / "alone")
    command = [tmp_path / "venv" / "bin" / "python", "-I", "-c", SPEAK, alone, tmp_path / "saved"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("spoken: ")
    # What was saved there comes back.
    _run("import", tmp_path / "saved", tmp_path / "W")
    assert (tmp_path / "W" / "checkpoints" / "2").is_dir()


@pytest.mark.slow
def test_an_imported_model_trains_on(exported, experiments, prepared_bundled, tmp_path, capsys):
    _run("import", exported / "gar", tmp_path / "W")
    arguments = ["--data", prepared_bundled, "--workdir", tmp_path / "run", "--init-from", tmp_path / "W"]
    _run("train", f"{experiments}:gar", *arguments)
    assert f"weights from {tmp_path / 'W' / 'checkpoints' / '2'}" in capsys.readouterr().out
    assert load_trained(tmp_path / "run", "gar").path.name == "2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "order"), [("llama", "compact"), ("llama", "paper"), ("paper", "compact"), ("paper", "paper")]
)
def test_verify_finds_trained_models_to_be_the_same(experiments, prepared_bundled, tmp_path, capsys, preset, order):
    text = (
        experiments.read_text().replace(".llama(", f".{preset}(").replace("LayoutConfig()", f'LayoutConfig("{order}")')
    )
    (tmp_path / "longer.py").write_text(text.replace("steps=2", "steps=60").replace("log_every=1", "log_every=20"))
    for kind in ("gar", "nar"):
        where = ["--data", prepared_bundled, "--workdir", tmp_path / kind]
        _run("train", f"{tmp_path / 'longer.py'}:{kind}", *where)
    arguments = ["--gar", tmp_path / "gar", "--nar", tmp_path / "nar", "--codec", "bundled", tmp_path / "out"]
    _run("export", *arguments, "--verify", "--data", prepared_bundled)
    out = capsys.readouterr().out
    differences = [float(one) for one in re.findall(r"largest difference (\S+) \(", out)]
    assert len(differences) == 1 + 4 + 7 + 2 + 2
    assert all(one <= 1e-4 for one in differences)
    assert re.search(r"verified: the largest difference is \S+, in (GAR|NAR|codec) .* \(.*\)\n$", out)


# Seconds of the processor, as other processes may want it, too; and most memory, of this program alone (what getrusage says
# includes that of the process which started it).
MEASURED = """
import re, sys, time
from launch import cli
assert cli.main(["export", "--gar", *sys.argv[1:]]) == 0
print(time.process_time(), re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
def test_the_published_size_goes_out_in_half_a_minute_and_thrice_its_memory(tmp_path):
    experiment, frontend = librispeech.gar(), default_frontend()
    definition = define_model(experiment, len(frontend.phones))
    assert (experiment.model.transformer.num_layers, experiment.model.transformer.width) == (12, 1024)
    params = jax.jit(definition.init)(jax.random.key(0))
    card = {
        "experiment": experiment.to_json(),
        "frontend": json.loads(json.dumps(frontend.__dict__)),
        "codec": {"name": "bundled", "sha256": "0" * 64},
    }
    (tmp_path / "checkpoints").mkdir()
    save_params(tmp_path / "checkpoints" / "1", params, card)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "checkpoints" / "1", tmp_path / "out"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    seconds, kibibytes = map(float, done.stdout.split()[-2:])
    assert seconds < 30
    assert kibibytes * 1024 < 3 * 4 * definition.num_parameters
    _run("import", tmp_path / "out" / "gar", tmp_path / "W")
    back = load_params(tmp_path / "W" / "checkpoints" / "1", on_one_device(definition.shapes))
    jax.tree.map(np.testing.assert_array_equal, params, back)
