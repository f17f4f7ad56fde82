"""The folder of an export: whole or not there, and nothing else is ever replaced."""

import json

import pytest

from ellav_jax.errors import InputError
from ellav_jax.export.folder import new_export, read_config, write_model, write_root


def _write(out, *models, card="a card", overwrite=False):
    with new_export(out, overwrite=overwrite) as folder:
        for model in models:
            write_model(folder / model.kind, model, "float32", card)
        write_root(folder, card)


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def models(fresh):
    return [fresh(kind, "llama")[0] for kind in ("gar", "nar")]


def test_each_part_has_all_that_it_needs(models, tmp_path):
    _write(tmp_path / "out", *models)
    parts = ("README.md", "config.json", "frontend.json", "model.safetensors", "modeling_ellav.py")
    names = {f"{kind}/{name}" for kind in ("gar", "nar") for name in parts}
    files = _files(tmp_path / "out")
    assert files.keys() == names | {"README.md", "modeling_ellav.py"}
    assert json.loads(files["gar/frontend.json"])["phones"] == list(models[0].frontend.phones)
    assert files["gar/modeling_ellav.py"] == files["modeling_ellav.py"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing_behind_and_what_was_there_as_it_was(models, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(OSError, match="disk"), new_export(out, overwrite=False) as folder:
        write_model(folder / "gar", models[0], "float32", "")
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []
    _write(out, models[0])
    before = _files(out)
    with pytest.raises(OSError, match="disk"), new_export(out, overwrite=True) as folder:
        write_model(folder / "nar", models[1], "float32", "")
        raise OSError("disk full")
    assert _files(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_export_is_left_alone_and_another_needs_a_word(models, tmp_path):
    out = tmp_path / "out"
    _write(out, models[0])
    (before,) = [path.stat().st_ino for path in out.glob("gar/model.safetensors")]
    _write(out, models[0])
    assert (out / "gar/model.safetensors").stat().st_ino == before
    with pytest.raises(InputError, match=r"out: holds another export \(gar\); replace all of it with --overwrite"):
        _write(out, models[1])
    assert not (out / "nar").exists()
    _write(out, models[1], overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "modeling_ellav.py", "nar"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_export_is_never_replaced(models, tmp_path):
    out = tmp_path / "out"
    _write(out, models[0])
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not only an export of ellav \(it holds thesis.txt\)"):
        _write(out, models[0], overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file is in the way"):
        _write(tmp_path / "file", models[0], overwrite=True)
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "README.md").write_text("another's")
    with pytest.raises(InputError, match=r"it holds no model"):
        _write(tmp_path / "repository", models[0], overwrite=True)
    (tmp_path / "empty").mkdir()
    _write(tmp_path / "empty", models[0])
    assert (tmp_path / "empty" / "gar").is_dir()


def test_descriptions_of_other_programs_are_refused(models, tmp_path):
    _write(tmp_path / "out", models[0])
    assert read_config(tmp_path / "out" / "gar")["kind"] == "gar"
    with pytest.raises(InputError, match=r"out: holds gar; name one of them: .*out/gar$"):
        read_config(tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        read_config(tmp_path / "nowhere")
    path = tmp_path / "out" / "gar" / "config.json"
    config = json.loads(path.read_text())
    for content, message in (
        (config | {"format_version": 2}, "format 2, expected 1; export it with this version"),
        ({"model_type": "llama"}, "not the description of a model that ellav export wrote"),
        ([1], "not the description of a model that ellav export wrote"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            read_config(path.parent)
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_config(path.parent)
