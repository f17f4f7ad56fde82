"""Runs a streaming module over a list of clips: a few frames of a few clips at a time, in one compiled shape."""

import functools
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ellav_jax.codec.modules import MIN_CHUNK_FRAMES, Lanes, State
from ellav_jax.errors import InputError

_Busy = list[tuple[int, int, int]]  # of each busy lane: lane, clip, the clip's first frame in this chunk


class StreamingModule(Protocol):
    """`SeanetEncoder`, and everything else that carries a state from chunk to chunk."""

    def initial_state(self, lanes: int) -> State: ...

    def __call__(self, x: jax.Array, state: State, lanes: Lanes) -> tuple[jax.Array, State]: ...


class ChunkedRunner:
    """`chunk` frames of up to `lanes` clips go through `module` (an nnx.Module) at a time.

    When a lane's clip ends, the next clip takes the lane, so neither a short nor a long clip leaves lanes idle.
    The shape is the same for any list of clips: no second compilation, and no result that depends on the company.
    Raises InputError when `chunk` is too short to hold the reflection at a clip's beginning.
    """

    def __init__(self, module: StreamingModule, *, lanes: int, chunk: int):
        if lanes < 1 or chunk < MIN_CHUNK_FRAMES:
            raise InputError(
                f"codec: {lanes} lanes of {chunk} frames; expected at least 1 lane and {MIN_CHUNK_FRAMES} frames"
            )
        graph, self.parameters = nnx.split(module)
        self.lanes, self.chunk = lanes, chunk
        self.initial_state = module.initial_state(lanes)

        @functools.partial(jax.jit, donate_argnums=1)
        def run_chunk(parameters: nnx.State, state: State, x: jax.Array, lanes: Lanes) -> tuple[jax.Array, State]:
            return nnx.merge(graph, parameters)(x, state, lanes)

        self.run_chunk = run_chunk

    def __call__(self, clips: Sequence[np.ndarray], num_frames: Sequence[int]) -> list[np.ndarray]:
        """Arrays [num_frames * n, ...] of at least one frame each → arrays [num_frames * m, ...] in the same order."""
        # Longest first, each into the lane that is free next: the lanes then end at about the same time.
        waiting = deque(sorted(range(len(clips)), key=lambda clip: -num_frames[clip]))
        clip_of, start_of = [-1] * self.lanes, [0] * self.lanes
        outputs: list[list[np.ndarray]] = [[] for _ in clips]
        state = jax.tree.map(jnp.copy, self.initial_state)  # a copy, as each call gives its state's memory away
        pending: tuple[jax.Array, _Busy] | None = None
        while True:
            for lane in range(self.lanes):
                if clip_of[lane] < 0 and waiting:
                    clip_of[lane], start_of[lane] = waiting.popleft(), 0
            busy = [(lane, clip_of[lane], start_of[lane]) for lane in range(self.lanes) if clip_of[lane] >= 0]
            if busy:
                x, lanes = self._gather(clips, num_frames, busy)
                y, state = self.run_chunk(self.parameters, state, x, lanes)
            # The chunk before is fetched while the device works on this one.
            if pending is not None:
                self._scatter(outputs, num_frames, *pending)
            if not busy:
                return [np.concatenate(parts) for parts in outputs]
            pending = (y, busy)
            for lane, clip, _ in busy:
                start_of[lane] += self.chunk
                if start_of[lane] >= num_frames[clip]:
                    clip_of[lane] = -1

    def _gather(self, clips: Sequence[np.ndarray], num_frames: Sequence[int], busy: _Busy) -> tuple[np.ndarray, Lanes]:
        per_frame = len(clips[0]) // num_frames[0]
        x = np.zeros((self.lanes, self.chunk * per_frame, *clips[0].shape[1:]), clips[0].dtype)
        first, frames = np.ones(self.lanes, bool), np.zeros(self.lanes, np.int32)
        for lane, clip, start in busy:
            part = clips[clip][start * per_frame : (start + self.chunk) * per_frame]
            x[lane, : len(part)] = part
            first[lane], frames[lane] = start == 0, num_frames[clip] - start
        return x, Lanes(first, frames)

    def _scatter(self, outputs: list[list[np.ndarray]], num_frames: Sequence[int], y: jax.Array, busy: _Busy) -> None:
        y_host = np.asarray(y)
        per_frame = y_host.shape[1] // self.chunk
        for lane, clip, start in busy:
            frames = min(self.chunk, num_frames[clip] - start)
            outputs[clip].append(y_host[lane, : frames * per_frame].copy())
