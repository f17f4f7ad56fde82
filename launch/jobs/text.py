"""Texts of generated files: JSON, YAML that yamllint accepts, and shell."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, several lines as a literal block, no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def json_text(value: Any) -> str:
    """Indented JSON and a newline."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def yaml_text(*documents: Mapping[str, Any]) -> str:
    """Documents, each behind its `---`, keys in their order."""
    return "".join(
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, explicit_start=True, allow_unicode=True, width=10_000)
        for document in documents
    )


def shell_array(name: str, words: Sequence[str]) -> str:
    """An assignment of a bash array."""
    return f"{name}=({shlex.join(words)})\n"


def shell_lines(words: Sequence[str], indent: str = "  ") -> str:
    """A command, an option with its value on each line."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines != [[]]:
            lines.append([])
        lines[-1].append(word)
    return f" \\\n{indent}".join(map(shlex.join, lines)) + "\n"
