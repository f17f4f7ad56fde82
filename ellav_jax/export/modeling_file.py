"""`modeling_ellav.py`: the torch_*.py files of this folder one behind the other, so that what ships is what is tested."""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

PARTS = ("torch_modules", "torch_sequence", "torch_decoding", "torch_codec", "torch_speaker")
"""In the order in which they import each other."""
NAME = "modeling_ellav.py"

_PACKAGE = "ellav_jax.export."
_HEAD = '''"""ELLA-V in PyTorch: GAR, NAR and codec, loaded from the folders that `ellav export` wrote beside this file.

Needs torch (2.4 or later) and safetensors, nothing else. `load(folder)` gives a `Speaker`; `load_gar`, `load_nar` and
`load_codec` one part; `save` writes a fine-tuned model for `ellav import`. Apache-2.0, © 2026 The ellav_jax authors.
"""
'''


def modeling_source() -> str:
    """The file's text. Raises ValueError where two parts define one name, which the one behind would overwrite."""
    imports: list[ast.stmt] = []
    bodies: list[str] = []
    owners: dict[str, str] = {}
    for part in PARTS:
        text = (Path(__file__).parent / f"{part}.py").read_text(encoding="utf-8")
        tree = ast.parse(text)
        begin = 0
        for node in tree.body:
            if isinstance(node, ast.Expr) and begin == 0:
                begin = node.end_lineno
            elif isinstance(node, ast.Import | ast.ImportFrom):
                begin = node.end_lineno
                if not (isinstance(node, ast.ImportFrom) and node.module.startswith(_PACKAGE)):
                    imports.append(node)
            else:
                for name in _defined(node):
                    if name in owners:
                        raise ValueError(f"{part}.py and {owners[name]}.py both define {name}")
                    owners[name] = part
        title = f"# --- {ast.get_docstring(tree).splitlines()[0]}"
        bodies.append(f"{title}\n\n" + "\n".join(text.splitlines()[begin:]).strip() + "\n")
    return "\n".join([_HEAD, *_merged(imports), "", "\n\n".join(bodies)])


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


def _merged(imports: Iterable[ast.stmt]) -> list[str]:
    """Import lines with each name once: the standard library's ahead of the others, as in any file."""
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in imports:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                names.setdefault(node.module, set()).add(ast.unparse(alias))
            else:
                plain.add(ast.unparse(alias))
    lines = [(name, f"import {name}") for name in plain]
    lines += [(module, f"from {module} import {', '.join(sorted(names[module]))}") for module in names]

    def block(of_library: bool) -> list[str]:
        own = [line for module, line in lines if (module.split(".")[0] in sys.stdlib_module_names) == of_library]
        return sorted(own, key=lambda line: (line.startswith("from"), line))

    return [*block(True), "", *block(False)]
