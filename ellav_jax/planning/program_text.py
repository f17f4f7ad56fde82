"""What a compiled program's text (`Compiled.as_text()`) tells: what it sends between devices, and how long it computes."""

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"^(?:ROOT )?%[\w.\-]+ = (.+?) ([\w\-]+)\(")
_ARRAY = re.compile(r"\b(" + "|".join(_BYTES) + r")\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|body|to_apply)=%?([\w.\-]+)")
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_BOUND = re.compile(r" s32\[\]\S* constant\((\d+)\)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind that a device takes part in during one run of the program.

    num_bytes: of their results on one device; of a reduce-scatter, of what is reduced.
    """

    kind: str
    count: int
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class ProgramFacts:
    """cycles: the compiler's estimates for its operations, added up; it gives none for collectives and Pallas kernels.

    loops: it has loops, which the compiler's cost analysis counts as one turn.
    """

    collectives: tuple[Collective, ...]
    cycles: int
    loops: bool


@dataclasses.dataclass(frozen=True)
class _Operation:
    name: str
    result: str
    line: str


def read_program(text: str) -> ProgramFacts:
    """Collectives, in the order of `KINDS`, and cycles of one run of the program.

    What stands within a loop counts as often as the loop turns, if that is a number written in the program, else once.
    """
    computations = dict(_computations(text))
    turns = _turns(computations)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    cycles = 0
    for computation, operations in computations.items():
        for operation in operations:
            if estimate := _CYCLES.search(operation.line):
                cycles += turns[computation] * int(estimate[1])
            kind = operation.name.removesuffix("-start")
            if kind in KINDS:
                # The TPU compiler writes a reduce-scatter as a fusion of an all-reduce and the slice that a device keeps.
                kind = "reduce-scatter" if computation.startswith("all-reduce-scatter") else kind
                counts[kind] += turns[computation]
                sizes[kind] += turns[computation] * _result_bytes(operation)
    collectives = tuple(Collective(kind, counts[kind], sizes[kind]) for kind in KINDS if counts[kind])
    return ProgramFacts(collectives, cycles, any(one.name == "while" for part in computations.values() for one in part))


def _computations(text: str) -> Iterator[tuple[str, list[_Operation]]]:
    operations: list[_Operation] = []
    for line in map(str.strip, text.splitlines()):
        if start := _COMPUTATION.match(line):
            operations = []
            yield start[1], operations
        elif match := _OPERATION.match(line):
            operations.append(_Operation(match[2], match[1], line))


def _turns(computations: dict[str, list[_Operation]]) -> dict[str, int]:
    """How often each computation runs: the sum over its callers; the one that nothing calls, once."""
    callers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for computation, operations in computations.items():
        for operation in operations:
            condition = _CONDITION.search(operation.line) if operation.name == "while" else None
            times = _bound(computations[condition[1]]) if condition else 1
            for called in _CALLED.findall(operation.line):
                callers[called].append((computation, times))
    turns: dict[str, int] = {}

    def of(computation: str) -> int:
        if computation not in turns:
            above = callers[computation]
            turns[computation] = sum(of(caller) * times for caller, times in above) if above else 1
        return turns[computation]

    return {computation: of(computation) for computation in computations}


def _bound(condition: list[_Operation]) -> int:
    """Turns of a loop, given what decides on the next one: jax.lax.scan compares a counter from 0 with a constant."""
    bounds = [match[1] for operation in condition if (match := _BOUND.search(operation.line))]
    compared = any(operation.name == "compare" and "direction=LT" in operation.line for operation in condition)
    return int(bounds[0]) if compared and len(bounds) == 1 else 1


def _result_bytes(operation: _Operation) -> int:
    arrays = _ARRAY.findall(operation.result)
    sizes = [_BYTES[dtype] * math.prod(int(size) for size in shape.split(",") if size) for dtype, shape in arrays]
    # An asynchronous gather's result holds its operands too: what is gathered is the longest.
    return max(sizes) if operation.name in ("all-gather-start", "collective-permute-start") else sum(sizes)
