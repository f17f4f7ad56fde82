"""JAX's persistent compilation cache: on unless turned off, and what it did for one program, in one line."""

import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

# Time spans of tracing, of lowering, and of compiling or loading what was compiled before.
_PARTS = "/jax/core/compile/"
_COMPILED = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"
# In spite of its name: a program was compiled and goes into the cache. One that is too quick to compile has no event.
_KEPT = "/jax/compilation_cache/cache_misses"


def use_compilation_cache(say: Callable[[str], None]) -> str | None:
    """Turns the cache on for this process, and returns its directory (or URL); None where it is off. say gets warnings.

    Call it before the first compilation, and behind `jax.distributed.initialize`: process 0 alone writes. The directory
    is $JAX_COMPILATION_CACHE_DIR, or else ellav_jax/compilation in $XDG_CACHE_HOME or ~/.cache; where that can't be
    made there is no cache. JAX_ENABLE_COMPILATION_CACHE=0 turns it off. Kept is what takes at least
    $JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS (1 s) to compile.

    Several processes may share it: keys are hashes of program, compiler version and devices; JAX compiles anew, with a
    warning, what it can't read.
    """
    if jax.config.jax_compilation_cache_dir is None and jax.config.jax_enable_compilation_cache:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = home / "ellav_jax" / "compilation"
        if jax.default_backend() == "cpu":
            directory /= f"cpu-{_cpu()}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            say(f"warning: no compilation cache ({error}); name another directory in JAX_COMPILATION_CACHE_DIR")
            return None
        jax.config.update("jax_compilation_cache_dir", str(directory))
    return compilation_cache_directory()


def compilation_cache_directory() -> str | None:
    """The directory (or URL) of the cache in use, None where there is none."""
    return (jax.config.jax_enable_compilation_cache and jax.config.jax_compilation_cache_dir) or None


def _cpu() -> str:
    """Stands for this CPU's instruction set: JAX's keys do not have it, and code for another one may not run here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), platform.processor())
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:8]


@dataclasses.dataclass
class _Program:
    """One program of a watch: seconds of tracing, lowering and compiling or loading it; where it came from."""

    seconds: float
    hit: bool
    kept: bool


class CompilationWatch:
    """What was compiled since the watch began."""

    def __init__(self) -> None:
        self._programs: list[_Program] = []
        self._begin: float | None = None
        self._hit = self._kept = False

    def on_event(self, event: str, **_: str | int) -> None:
        """A listener for `jax.monitoring`."""
        self._hit |= event == _HIT
        self._kept |= event == _KEPT

    def on_time_span(self, event: str, start: float, end: float, **_: str | int) -> None:
        """A listener for `jax.monitoring`. A program's parts come one behind the other, its compilation last."""
        if not event.startswith(_PARTS):
            return
        self._begin = start if self._begin is None else min(self._begin, start)
        if event == _COMPILED:
            self._programs.append(_Program(end - self._begin, self._hit, self._kept))
            self._begin, self._hit, self._kept = None, False, False

    def line(self, what: str) -> str | None:
        """One line for people on the largest program, which `what` names; None when nothing had to be compiled."""
        if not self._programs:
            return None
        program = max(self._programs, key=lambda one: one.seconds)
        directory = compilation_cache_directory()
        if program.hit:
            return f"{what} from the compilation cache {directory} in {program.seconds:.1f} s"
        if directory is None:
            outcome = "no compilation cache"
        elif program.kept:
            outcome = f"cache miss, kept in {directory}"
        else:
            least = jax.config.jax_persistent_cache_min_compile_time_secs
            outcome = f"cache miss, not kept in {directory}, which takes what compiles for {least:g} s or more"
        return f"{what} compiled in {program.seconds:.1f} s ({outcome})"


@contextmanager
def watch_compilation() -> Iterator[CompilationWatch]:
    """Watches what is compiled inside, in this process; the watch can be asked afterwards."""
    watch = CompilationWatch()
    jax.monitoring.register_event_listener(watch.on_event)
    jax.monitoring.register_event_time_span_listener(watch.on_time_span)
    try:
        yield watch
    finally:
        jax.monitoring.unregister_event_listener(watch.on_event)
        jax.monitoring.unregister_event_time_span_listener(watch.on_time_span)
