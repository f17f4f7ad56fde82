"""What a compiler's answers are turned into, without a compiler; the compiler itself: tests/launch/test_plan.py."""

import jax
import pytest

from ellav_jax.errors import InputError
from ellav_jax.planning import aot
from ellav_jax.planning.aot import DoesNotFit, compile_step, compiling_environment, topology_devices

MESSAGE = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(120.50G) exceeds available HBM (95.74G)."
)


class _Failing:
    def __init__(self, message):
        self._message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self._message)


def test_a_step_that_does_not_fit_says_by_how_much_and_what_to_change():
    with pytest.raises(
        DoesNotFit, match=r"wants 120\.50 GiB of 95\.74 GiB\); recompute more .*remat full.*fewer rows"
    ) as info:
        compile_step(_Failing(MESSAGE), 0.0)
    assert info.value.needed == 120.5 * 2**30
    assert isinstance(info.value, InputError)


def test_a_message_without_figures_still_says_what_to_change():
    with pytest.raises(DoesNotFit, match=r"does not fit a device's memory; recompute more"):
        compile_step(_Failing("RESOURCE_EXHAUSTED: no figures"), 0.0)


def test_other_errors_of_the_compiler_stay_what_they_are():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: broken"):
        compile_step(_Failing("INTERNAL: broken"), 0.0)


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(aot, "libtpu_found", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'ellav-jax\[tpu-plan\]'"):
        topology_devices(None)


def test_the_compilers_environment_keeps_what_was_there():
    environment = compiling_environment({"PATH": "/bin", "JAX_PLATFORMS": "tpu"})
    assert environment["PATH"] == "/bin"
    assert environment["JAX_PLATFORMS"] == "cpu"
