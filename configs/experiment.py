"""What an experiment is: the configurations of every floor in one frozen value."""

import dataclasses
import difflib
import importlib
import importlib.util
import json
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from data_pipelines.loader import DataConfig
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.gar import GarConfig
from ellav_jax.models.nar import NarConfig
from ellav_jax.sharding import MeshConfig, ShardingRules
from ellav_jax.training.run import TrainConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One model and how it is trained. A NAR's `layout` gives the local advance that its phone track went through."""

    layout: LayoutConfig
    model: GarConfig | NarConfig
    data: DataConfig
    train: TrainConfig
    mesh: MeshConfig = MeshConfig()
    sharding: ShardingRules = ShardingRules()

    @property
    def kind(self) -> str:
        """ "gar" or "nar"."""
        return "gar" if isinstance(self.model, GarConfig) else "nar"

    def to_json(self) -> dict[str, Any]:
        """All fields, nested, and `kind`."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


def from_json(value: dict[str, Any], where: str) -> Experiment:
    """The experiment that `to_json` wrote. Raises InputError when it has unknown or missing fields."""
    try:
        values = dict(value)
        model = {"gar": GarConfig, "nar": NarConfig}[values.pop("kind")]
        return _build(Experiment, values, {"model": model})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: not an experiment of this version of ellav-jax ({error})") from None


def _build(cls: type, values: dict[str, Any], classes: dict[str, type]) -> Any:
    fields = {field.name: classes.get(field.name, field.type) for field in dataclasses.fields(cls)}
    return cls(
        **{
            name: _build(fields[name], value, classes) if dataclasses.is_dataclass(fields.get(name)) else value
            for name, value in values.items()
        }
    )


def find_experiment(name: str) -> Experiment:
    """`A.b`: function b of configs/A.py; `FILE.py:b`: function b of a file. Raises InputError for what isn't there."""
    if ".py:" in name:
        path, _, function = name.rpartition(":")
        if not Path(path).is_file():
            raise InputError(f"experiment {name}: no such file {path}")
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module_name, _, function = name.partition(".")
        modules = _modules()
        if module_name not in modules:
            raise InputError(
                f"experiment {name}: no configs/{module_name}.py; there are: {', '.join(modules)}{_near(name)}"
            )
        module = importlib.import_module(f"configs.{module_name}")
    functions = _functions(module)
    if function not in functions:
        raise InputError(
            f"experiment {name}: {module.__name__} has no function {function!r}; it has: {', '.join(functions)}"
            f"{_near(name)}"
        )
    return functions[function]()


def _near(name: str) -> str:
    near = () if ".py:" in name else difflib.get_close_matches(name, list_experiments(), cutoff=0.5)
    return f"; near it: {', '.join(near)}" if near else ""


def list_experiments() -> list[str]:
    """Names `A.b` of all experiments of configs/."""
    modules = {name: importlib.import_module(f"configs.{name}") for name in _modules()}
    return [f"{name}.{function}" for name, module in modules.items() for function in _functions(module)]


def _modules() -> list[str]:
    return sorted(
        p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "experiment", "trained")
    )


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__ and not key.startswith("_")
    }


def differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Lines `field: old → new` for every field of two experiments' JSON that differs."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        here, a, b = f"{path}{name}", old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{here}.")
        elif json.dumps(a) != json.dumps(b):
            lines.append(f"{here}: {json.dumps(a)} there, {json.dumps(b)} now")
    return lines
