"""Compiler options: given where XLA knows them, left out where it does not."""

import jax
import pytest

from delt_jax import target
from delt_jax.core import compiling


@pytest.fixture(autouse=True)
def _asked_anew():
    compiling._known_cpu_options.cache_clear()
    yield
    compiling._known_cpu_options.cache_clear()


def test_options_that_this_release_knows_are_given():
    options = compiling.compiler_options()
    assert options == compiling.CPU_OPTIONS
    assert jax.jit(lambda x: 2 * x, compiler_options=options)(3.0) == 6.0


def test_options_that_it_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    assert compiling.compiler_options() == {}


def test_accelerators_get_none():
    with target.made_for("tpu"):
        assert compiling.compiler_options() == {}


def test_a_gpu_is_told_to_be_deterministic_where_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(compiling, "_deterministic", False)
    with target.made_for("gpu"):
        assert compiling.compiler_options() == {}
        compiling.set_deterministic(True)
        assert compiling.compiler_options() == {"xla_gpu_deterministic_ops": True}
    with target.made_for("tpu"):
        assert compiling.compiler_options() == {}
    assert compiling.compiler_options() == compiling.CPU_OPTIONS


def test_xla_knows_the_option_for_gpus():
    options = compiling.DETERMINISTIC_GPU_OPTIONS
    assert jax.jit(lambda x: 2 * x, compiler_options=options)(3.0) == 6.0


def test_programs_of_both_modes_are_built_apart(monkeypatch):
    monkeypatch.setattr(compiling, "_deterministic", False)
    built = compiling.built_once(lambda: object())
    usual = built()
    compiling.set_deterministic(True)
    assert built() is not usual
    compiling.set_deterministic(False)
    assert built() is usual
