"""A trace of a few training steps, as JAX's profiler records it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ellav_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """Which steps are traced, into WORKDIR/profile.

    first_step: the first step traced, counted from 1 as in the log; None traces nothing. One that this start of the run
    begins with has the compilation in it, so choose a later one. steps: how many.
    """

    first_step: int | None = None
    steps: int = 3

    def __post_init__(self) -> None:
        if self.first_step is not None and self.first_step < 1:
            raise InputError(f"profile.first_step must be 1 or more, got {self.first_step}")
        if self.steps < 1:
            raise InputError(f"profile.steps must be 1 or more, got {self.steps}")


class Profiler:
    """Opens and closes the trace around the steps that the configuration names.

    JAX traces the host and the devices of the process that asks for it. Process 0 alone does, as all run the same
    program. directory: where JAX makes plugins/profile/TIME/. say gets lines for people.
    """

    def __init__(self, config: ProfileConfig, directory: Path, say: Callable[[str], None]):
        self._config, self._directory, self._say = config, directory, say
        self._tracing: list[int] = []
        self._wanted = config.first_step is not None and jax.process_index() == 0

    def step(self, number: int, before: Any) -> jax.profiler.StepTraceAnnotation:
        """A context for the call of step `number` (from 1), which names it in the trace.

        before: arrays that the step before it makes; they are waited for where the trace begins or ends, so that it
        holds the work of its steps and no other.
        """
        if self._wanted:
            first = self._config.first_step
            inside = first <= number < first + self._config.steps
            if inside != bool(self._tracing):
                jax.block_until_ready(before)
                if inside:
                    jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
                else:
                    self._stop()
            if inside:
                self._tracing.append(number)
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def close(self) -> None:
        """Ends a trace that is still open; the run ended inside its steps."""
        if self._tracing:
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        *_, trace = sorted((self._directory / "plugins" / "profile").iterdir())
        self._say(
            f"trace of steps {self._tracing[0]} to {self._tracing[-1]}: {trace}; look at it with `pip install xprof && "
            f"xprof --logdir {self._directory}`, or open its perfetto_trace.json.gz on https://ui.perfetto.dev"
        )
        self._tracing = []
        self._wanted = False
