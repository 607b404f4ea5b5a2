"""What XLA is told when it compiles the programs of this package."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from delt_jax import target

# Of the libraries that XLA's CPU backend knows, YNNPACK is its default for convolutions; Eigen's
# are 10 to 27 % faster in our programs on two cores (benchmarks/synthesis.py, jax 0.10.2).
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    )
}
# When XLA compiles, it times several kernels for each convolution and product and takes the
# fastest, which may be another one the next time and round otherwise. With this option it takes,
# untimed, the first of those that always give the same sums.
DETERMINISTIC_GPU_OPTIONS = {"xla_gpu_deterministic_ops": True}

_deterministic = False


def set_deterministic(on: bool) -> None:
    """Says how the programs of this process are compiled from now on; on a CPU all are the same."""
    global _deterministic
    _deterministic = on


def compiler_options() -> dict[str, Any]:
    """Options for `jax.jit` and `jax.stages.Lowered.compile`."""
    if target.platform() == "cpu":
        return _known_cpu_options()
    if target.platform() == "gpu" and _deterministic:
        return DETERMINISTIC_GPU_OPTIONS
    return {}


Arguments = ParamSpec("Arguments")
Program = TypeVar("Program")


def built_once(build: Callable[Arguments, Program]) -> Callable[Arguments, Program]:
    """Decorates a function that builds a jitted program: equal arguments give the same program.

    So a second trainer in the same process, such as the next call in a notebook, compiles nothing.
    The arguments must be hashable. The networks' `apply` of one architecture are equal, for
    `delt_jax.models.registry.create` builds each module once.
    """

    @functools.lru_cache(maxsize=64)
    def for_compiler(compiler: tuple[str, bool], *args: Any, **options: Any) -> Program:
        del compiler  # programs of several platforms and modes are compiled in several ways
        return build(*args, **options)

    @functools.wraps(build)
    def built(*args: Arguments.args, **options: Arguments.kwargs) -> Program:
        return for_compiler((target.platform(), _deterministic), *args, **options)

    return built


@functools.cache
def _known_cpu_options() -> dict[str, Any]:
    try:
        jax.jit(lambda x: x, compiler_options=CPU_OPTIONS)(0.0)
    except (jax.errors.JaxRuntimeError, ValueError):
        return {}  # a release that does not know them
    return CPU_OPTIONS
