"""The Python API as one imports it: light, documented by examples that run."""

import doctest
import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import delt_jax
from delt_jax import api

ROOT = pathlib.Path(__file__).parents[2]
MODULES = [f"delt_jax.api.{module.name}" for module in pkgutil.iter_modules(api.__path__)]


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys, delt_jax; assert 'rank' in dir(delt_jax); delt_jax.__version__; "
        "print([name for name in ('jax', 'numpy', 'ml_collections') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_package_offers_what_the_api_does():
    assert delt_jax.__all__ == api.__all__
    assert delt_jax.rank is api.rank
    assert set(api.__all__) <= set(dir(delt_jax))
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        delt_jax.distil  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_every_function_has_an_example():
    shown = {
        function
        for name in MODULES
        for test in doctest.DocTestFinder().find(importlib.import_module(name))
        for example in test.examples
        for function in re.findall(r"delt_jax\.(\w+)\(", example.source)
    }
    functions = {name for name in api.__all__ if name[0].islower()}
    assert functions - shown == set()
