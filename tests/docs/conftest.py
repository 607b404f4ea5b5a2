"""What the tests of documents share."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def program_environment(pytestconfig) -> dict[str, str]:
    """Returns the environment of a program beside the clone; it shares the compile cache."""
    kept = pytestconfig.cache.mkdir("compiled")
    return os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(8 << 30),
        "JAX_COMPILATION_CACHE_DIR": str(kept),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    }
