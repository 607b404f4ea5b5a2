"""What the tests of documents share."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def one_device(pytestconfig) -> dict[str, str]:
    """The environment of a program beside the clone: one device, and compiled programs are kept."""
    kept = pytestconfig.cache.mkdir("compiled-documents")
    return os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(kept),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    }
