"""What XLA is told when it compiles the programs of this package."""

import functools
from typing import Any

import jax

from delt_jax import target

# Of the libraries that XLA's CPU backend knows, YNNPACK is its default for convolutions; Eigen's
# are 10 to 27 % faster in our programs on two cores (benchmarks/synthesis.py, jax 0.10.2).
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    )
}


def compiler_options() -> dict[str, Any]:
    """Options for `jax.jit` and `jax.stages.Lowered.compile`."""
    return _known_cpu_options() if target.platform() == "cpu" else {}


@functools.cache
def _known_cpu_options() -> dict[str, Any]:
    try:
        jax.jit(lambda x: x, compiler_options=CPU_OPTIONS)(0.0)
    except (jax.errors.JaxRuntimeError, ValueError):
        return {}  # a release that does not know them
    return CPU_OPTIONS
