"""What `ellav plan` prints."""

from collections.abc import Sequence

from rich.table import Table

from ellav_jax.hardware import GIB, Topology
from ellav_jax.planning.roofline import KERNEL_EFFICIENCY
from launch.planning.content import UTTERANCES
from launch.planning.point import Point


def describe(point: Point, name: str, topology: Topology) -> str:
    """A point in lines."""
    work, content, tpu = point.workload, point.content, topology.tpu
    lines = {
        f"{name} on {topology.name}": f"{topology.num_devices} devices, {topology.num_hosts} hosts, {topology.slices} "
        f"slice{'s' * (topology.slices > 1)} of {'x'.join(map(str, topology.shape))} chips; mesh data={work.data} "
        f"fsdp={work.fsdp} tensor={work.tensor}; {work.num_parameters / 1e6:.1f} M parameters",
        "a step": f"{content.positions:,} positions, {content.fill:.1%} of them real; {content.audio_seconds:,.0f} s of "
        f"speech; {content.model_flops / 1e12:,.4g} TFLOP by the model's definition",
        "assumed": f"{UTTERANCES:,} utterances of LibriSpeech's lengths, {content.mean_segment:,.0f} positions each on "
        f"average; {content.left_out:.1%} of them longer than a row",
        "roofline (estimate)": _roofline(point),
    }
    if point.compiled is None:
        return _aligned(lines | {"memory": str(point.does_not_fit)})
    compiled, seconds = point.compiled, point.seconds
    lines["memory"] = (
        f"{compiled.peak_bytes / GIB:.2f} GiB of {tpu.hbm_bytes / GIB:.2f} GiB a device at its peak, "
        f"{compiled.state_bytes / GIB:.2f} GiB of them parameters, optimizer and batch"
    )
    kernel = ""
    if point.attention_seconds:
        kernel = f" + attention kernel {_ms(point.attention_seconds)} (estimate)"
    lines["compiler (estimate)"] = (
        f"operations {_ms(point.operation_seconds)}{kernel} = {_ms(seconds)} a step, MFU {point.mfu(seconds):.1%}, "
        f"{content.positions / seconds / 1e6:.1f} M positions/s, {content.audio_seconds / seconds:,.0f} s of speech/s"
    )
    if point.seconds_by_cost:
        lines["by its cost analysis"] = (
            f"{_ms(point.seconds_by_cost)} a step, MFU {point.mfu(point.seconds_by_cost):.1%}"
        )
    if work.kernel:
        area = "whole rows" if work.kernel == "splash" else f"{work.visited:.1%} of a row's square visited"
        lines["assumed of the kernel"] = (
            f"{work.kernel}: {area}, {KERNEL_EFFICIENCY[work.kernel]:.0%} of the matrix units' time, heads of "
            f"{work.transformer.head_width} fill "
            f"{min(1.0, work.transformer.head_width / tpu.matrix_unit):.0%} of a unit's {tpu.matrix_unit} rows"
        )
    lines["collectives"] = (
        ", ".join(f"{one.count} {one.kind} ({one.num_bytes / 2**20:,.0f} MiB)" for one in compiled.collectives)
        or "none"
    )
    lines["compiled in"] = f"{compiled.compile_seconds:.1f} s"
    return _aligned(lines)


def search_table(points: Sequence[Point], topology: Topology, memory_share: float) -> Table:
    """Points as rows; the fastest that uses at most `memory_share` of the memory is marked."""
    room = memory_share * topology.tpu.hbm_bytes
    fitting = [point for point in points if point.compiled and point.compiled.peak_bytes <= room]
    best = max(fitting, key=lambda point: point.mfu(point.seconds), default=None)
    table = Table(
        *("remat", "rows", "positions", "GiB a device", "ms a step", "M positions/s", "MFU", ""),
        title=f"{topology.name}, estimates",
        caption=f"* the fastest within {memory_share:.0%} of a device's {topology.tpu.hbm_bytes / GIB:.2f} GiB",
    )
    for point in points:
        work = point.workload
        cells = [work.transformer.remat, str(work.rows), f"{work.positions:,}"]
        needed = "?" if point.needed_bytes is None else f"{point.needed_bytes / GIB:.2f}"
        if point.seconds is None:
            table.add_row(*cells, needed, "too large", "", "", "")
            continue
        speed = (f"{point.seconds * 1e3:.1f}", f"{work.positions / point.seconds / 1e6:.1f}")
        mark = "*" if point is best else ""
        table.add_row(*cells, needed, *speed, f"{point.mfu(point.seconds):.1%}", mark)
    return table


def _roofline(point: Point) -> str:
    line = point.roofline
    return (
        f"compute {_ms(line.compute)}, memory {_ms(line.memory)}, links {_ms(line.links)}, network {_ms(line.network)}: "
        f"{line.binding} binds, MFU at most {point.mfu(line.seconds):.1%}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _aligned(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
