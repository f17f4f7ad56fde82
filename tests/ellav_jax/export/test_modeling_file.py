"""The file that ships: the tested parts one behind the other, nothing left out, nothing but torch and safetensors in it."""

import ast
import subprocess
import sys

import pytest

from ellav_jax.export import modeling_file
from ellav_jax.export.modeling_file import PARTS, modeling_source


def _statements(source):
    kept = (ast.ClassDef, ast.FunctionDef, ast.Assign)
    return [ast.dump(node) for node in ast.parse(source).body if isinstance(node, kept)]


def test_the_file_is_its_parts_in_their_order():
    folder = modeling_file.Path(modeling_file.__file__).parent
    parts = [statement for part in PARTS for statement in _statements((folder / f"{part}.py").read_text())]
    assert _statements(modeling_source()) == parts
    assert len(parts) > 60


def test_it_imports_torch_safetensors_and_the_standard_library_alone():
    nodes = [node for node in ast.walk(ast.parse(modeling_source())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name if isinstance(node, ast.Import) else node.module for node in nodes for alias in node.names}
    others = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert others == {"torch", "safetensors"}


def test_it_runs_where_nothing_else_can_be_imported(tmp_path):
    (tmp_path / "modeling_ellav.py").write_text(modeling_source())
    code = """
import sys
sys.modules |= dict.fromkeys(("jax", "flax", "ellav_jax", "configs", "launch"))  # importing one of these would fail
import modeling_ellav as m
model = m.Gar(m.TransformerConfig(num_layers=1, num_heads=2, width=8, ff_width=16), num_phones=3)
row = m.make_row(m.Utterance([0], [2], m.torch.zeros(2, 8)), [1, 2], [1, 1], [3, 3], 9, m.Layout())
print(len(m.decode_rows(model, [row], False, m.Sampling())[0].codes) >= 2)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_name_that_two_parts_define_is_refused(monkeypatch):
    monkeypatch.setattr(modeling_file, "PARTS", ("torch_modules", "torch_modules"))
    with pytest.raises(ValueError, match=r"torch_modules.py and torch_modules.py both define NUM_CODES"):
        modeling_source()
