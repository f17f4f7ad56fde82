"""Which points a benchmark of a model measures: presets, options that change them, and sweeps over any of them."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import product
from typing import Annotated, Any, get_args, get_type_hints

from tyro.conf import arg

from configs.experiment import Experiment, find_experiment
from ellav_jax.errors import InputError
from ellav_jax.hybrid_sequence import LayoutConfig
from ellav_jax.models.transformer import TransformerConfig
from ellav_jax.sharding import MeshConfig
from launch.benchmarks.options import whole_numbers

PRESETS = {"small": "prompts_small", "paper": "librispeech", "1b": "libriheavy_1b"}
"""Modules of configs/ whose sizes the presets are."""


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What is measured. Each option takes several values, with commas between them: every combination is a point."""

    preset: Annotated[str, arg(metavar="small|paper|1b")] = "small"
    """Sizes: small (prompts_small), paper (librispeech: 12 layers of width 1024), 1b (libriheavy_1b)."""
    kind: Annotated[str, arg(metavar="gar|nar|valle|…")] = "gar"
    """Which of the preset's experiments."""
    experiment: Annotated[str | None, arg(metavar="EXPERIMENT")] = None
    """FILE.FUNCTION of configs/, or PATH.py:FUNCTION, in place of preset and kind."""
    layout: Annotated[str | None, arg(metavar="compact|paper|valle")] = None
    """Order of the hybrid sequence."""
    attention: Annotated[str | None, arg(metavar="BACKEND")] = None
    """Attention backend: auto, xla, segments, pallas_tpu, splash, pallas_gpu."""
    dtype: Annotated[str | None, arg(metavar="float32|bfloat16")] = None
    """Of activations and matrix products."""


@dataclasses.dataclass(frozen=True)
class StepOptions(ModelOptions):
    """The same for a training step."""

    batch: Annotated[str | None, arg(metavar="ROWS")] = None
    """Rows of a batch."""
    row_length: Annotated[str | None, arg(metavar="POSITIONS")] = None
    """Positions of a row."""
    remat: Annotated[str | None, arg(metavar="none|dots|attention|full")] = None
    """What the backward pass finds, and what it computes again."""
    mesh: Annotated[str | None, arg(metavar="DATAxFSDPxTENSOR")] = None
    """Devices along each axis of the mesh, as in 1x8x1; -1 for one of them: the rest."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A point's experiment, its name, and the values that tell it from other points of the sweep."""

    name: str
    experiment: Experiment
    label: dict[str, str]


def points(options: ModelOptions) -> Iterator[Chosen]:
    """Every combination of the options' values, the last option varying fastest. Raises InputError."""
    values = {
        name: [one.strip() for one in value.split(",")]
        for name, value in dataclasses.asdict(options).items()
        if value is not None
    }
    if "experiment" in values:
        del values["preset"], values["kind"]
    swept = [name for name, several in values.items() if len(several) > 1]
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        name = chosen.get("experiment") or _preset(chosen["preset"], chosen["kind"])
        experiment = find_experiment(name)
        if not isinstance(experiment, Experiment):
            raise InputError(f"experiment {name}: it returns {type(experiment).__name__}, expected an Experiment")
        for option, text in chosen.items():
            if option in _CHANGES:
                experiment = _CHANGES[option](experiment, text)
        yield Chosen(name, experiment, {option: chosen[option] for option in swept})


def _preset(preset: str, kind: str) -> str:
    if preset not in PRESETS:
        raise InputError(f"--preset {preset}: expected {', '.join(PRESETS)}; others by --experiment")
    return f"{PRESETS[preset]}.{kind}"


def with_transformer(experiment: Experiment, **changes: Any) -> Experiment:
    """The experiment with fields of its transformer changed."""
    transformer = dataclasses.replace(experiment.model.transformer, **changes)
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, transformer=transformer))


def with_rows(experiment: Experiment, rows: int) -> Experiment:
    """The experiment with so many rows a batch."""
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, batch_rows=rows))


def _one_of(option: str, config: type, field: str, text: str) -> str:
    known = get_args(get_type_hints(config)[field])
    if text not in known:
        raise InputError(f"--{option} {text}: expected {', '.join(known)}")
    return text


def _with_layout(experiment: Experiment, text: str) -> Experiment:
    order = _one_of("layout", LayoutConfig, "order", text)
    fields = {"global_advance": True, "local_advance": 0} if order == "valle" else {}
    return dataclasses.replace(experiment, layout=dataclasses.replace(experiment.layout, order=order, **fields))


def _with_row_length(experiment: Experiment, text: str) -> Experiment:
    data = dataclasses.replace(experiment.data, row_length=whole_numbers("row-length", text)[0])
    return dataclasses.replace(experiment, data=data)


def _with_mesh(experiment: Experiment, text: str) -> Experiment:
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size == "-1" or (size.isdigit() and int(size)) for size in sizes):
        raise InputError(f"--mesh {text}: expected DATAxFSDPxTENSOR, as in 8x1x1 or -1x2x1")
    return dataclasses.replace(experiment, mesh=MeshConfig(*map(int, sizes)))


def _transformer_choice(option: str) -> Callable[[Experiment, str], Experiment]:
    def change(experiment: Experiment, text: str) -> Experiment:
        return with_transformer(experiment, **{option: _one_of(option, TransformerConfig, option, text)})

    return change


_CHANGES: dict[str, Callable[[Experiment, str], Experiment]] = {
    "layout": _with_layout,
    "attention": _transformer_choice("attention"),
    "dtype": _transformer_choice("dtype"),
    "batch": lambda experiment, text: with_rows(experiment, whole_numbers("batch", text)[0]),
    "row_length": _with_row_length,
    "remat": _transformer_choice("remat"),
    "mesh": _with_mesh,
}
