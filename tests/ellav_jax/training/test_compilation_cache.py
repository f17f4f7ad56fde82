"""The persistent compilation cache: where it is, and whether the line tells what JAX did."""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from ellav_jax.training.compilation_cache import CompilationWatch, use_compilation_cache, watch_compilation

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)
sizes = itertools.count(3)


@pytest.fixture
def cache(tmp_path):
    """`cache(tmp_path, least=0)`: the cache is in this directory, None for none, and keeps what takes so many seconds."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}

    def use(directory, *, least=0.0, enabled=True):
        jax_cache.reset_cache()
        values = (None if directory is None else str(directory), enabled, least)
        for name, value in zip(SETTINGS, values, strict=True):
            jax.config.update(name, value)

    yield use
    jax_cache.reset_cache()
    for name, value in before.items():
        jax.config.update(name, value)


def _program():
    """`make()`: a jitted function that JAX has to compile, each time, and to it the same program; → it is called."""
    size = next(sizes)

    def make():
        def train(x):
            return jax.lax.scan(lambda c, _: (jnp.sin(c @ c), None), x, length=4)[0].sum()

        argument = jnp.ones((size, size))  # compiled outside the watch
        with watch_compilation() as watch:
            jax.block_until_ready(jax.jit(train)(argument))
        return watch

    return make


def test_a_miss_is_kept_and_found_the_next_time(cache, tmp_path):
    cache(tmp_path)
    make = _program()
    miss, hit = make().line("train step"), make().line("train step")
    assert re.fullmatch(rf"train step compiled in \d+\.\d s \(cache miss, kept in {tmp_path}\)", miss)
    assert re.fullmatch(rf"train step from the compilation cache {tmp_path} in \d+\.\d s", hit)
    assert list(tmp_path.glob("jit_train-*-cache"))


def test_what_is_too_quick_to_be_kept_is_told_as_such(cache, tmp_path):
    cache(tmp_path, least=1000)
    make = _program()
    for _ in range(2):
        assert (
            make()
            .line("train step")
            .endswith(f"(cache miss, not kept in {tmp_path}, which takes what compiles for 1000 s or more)")
        )
    assert not list(tmp_path.glob("jit_train-*"))


@pytest.mark.parametrize("off", [{"directory": None}, {"directory": "unused", "enabled": False}])
def test_without_a_cache_the_line_says_so(cache, tmp_path, monkeypatch, off):
    monkeypatch.chdir(tmp_path)
    cache(**off)
    assert _program()().line("train step").endswith(" s (no compilation cache)")
    assert not list(tmp_path.iterdir())


def test_a_damaged_entry_is_compiled_anew(cache, tmp_path):
    cache(tmp_path)
    make = _program()
    make()
    for path in tmp_path.glob("jit_train-*-cache"):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
        assert "cache miss" in make().line("train step")


def test_the_largest_program_is_the_one_told_of_from_the_beginning_of_its_tracing():
    watch = CompilationWatch()
    assert watch.line("train step") is None
    small = [("jaxpr_trace_duration", 10.0, 10.1), ("backend_compile_duration", 10.2, 10.3)]
    # A function inside a function is traced inside its trace, and told of first.
    large = [("jaxpr_trace_duration", 11.0, 11.5), ("jaxpr_trace_duration", 10.5, 12.0)]
    large += [("jaxpr_to_mlir_module_duration", 12.0, 12.5), ("backend_compile_duration", 12.5, 20.5)]
    for spans, hit in ((small, True), (large, False), (small, True)):
        for name, start, end in spans:
            if hit and name.startswith("backend"):
                watch.on_event("/jax/compilation_cache/cache_hits")
            watch.on_time_span(f"/jax/core/compile/{name}", start, end, fun_name="f")
        watch.on_time_span("/jax/something/else", 0.0, 1000.0)
    assert watch.line("train step").startswith("train step compiled in 10.0 s (")


def test_nothing_compiled_has_no_line():
    function = jax.jit(lambda x: x + 1)
    jax.block_until_ready(function(1.0))
    with watch_compilation() as watch:
        function(2.0)
    assert watch.line("train step") is None


def test_a_watch_ends_with_its_block(cache, tmp_path):
    cache(None)
    watch = _program()()
    before = watch.line("one")
    _program()()
    assert watch.line("one") == before


def test_the_default_directory_is_in_the_users_cache_and_the_users_choice_goes_first(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache(tmp_path / "chosen")
    assert use_compilation_cache(print) == str(tmp_path / "chosen")
    cache(None, enabled=False)
    assert use_compilation_cache(print) is None
    cache(None)
    directory = use_compilation_cache(print)
    assert re.fullmatch(rf"{tmp_path}/ellav_jax/compilation/cpu-[0-9a-f]{{8}}", directory)
    _program()()
    assert list((tmp_path / "ellav_jax" / "compilation").glob("cpu-*/jit_train-*-cache"))


def test_a_directory_that_cannot_be_made_costs_the_cache_not_the_run(cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache(None)
    said = []
    assert use_compilation_cache(said.append) is None
    [line] = said
    assert line.startswith("warning: no compilation cache (")
    assert "JAX_COMPILATION_CACHE_DIR" in line
    assert _program()().line("train step").endswith("(no compilation cache)")
