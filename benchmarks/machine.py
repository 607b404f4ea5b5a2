"""The machine that a benchmark runs on: what it is, and the rates that nothing on it can exceed.

A rate that a network reaches says little alone; as a share of what the same device does in a plain
matrix product, or in a plain pass over memory, it says what is left to win.
"""

import importlib.metadata
import os
import pathlib
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from delt_jax.models import registry

SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # of the square matrices
BYTES = {"cpu": 2**27, "gpu": 2**30, "tpu": 2**30}  # of the array that is passed over
CALLS = 5  # in flight at once, so that their dispatch does not count
REPEATS = 5  # of which the fastest counts: it is a ceiling that is looked for


def describe(*packages: str) -> dict[str, Any]:
    """Device, processor, cores, and the versions of jax and `packages` where they are installed."""
    device = jax.devices()[0]
    versions = {}
    for name in ("jax", *packages):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    """The processor's name, where the system tells."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def matrix_rate(dtype: str, side: int | None = None) -> float:
    """FLOP/s of a product of two square matrices: 2 side^3 operations.

    Args:
      dtype: of the matrices, "float32" or "bfloat16". On a GPU, jax's default precision lets
        float32 run as TF32, here as in convolutions.
      side: of the matrices; None: large enough for the device.
    """
    side = side or SIDE.get(jax.default_backend(), SIDE["cpu"])
    # Random, as a GPU multiplies constants faster; of norm 1, so that products stay in range.
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype) / side**0.5
    product = jax.jit(jnp.matmul)
    return 2 * side**3 / _seconds(lambda value: product(value, matrix), matrix)


def bandwidth(size: int | None = None) -> float:
    """Bytes per second of adding to a large float32 array in place: each is read and written.

    Args:
      size: of the array in bytes; None: far more than the caches of the device.
    """
    size = size or BYTES.get(jax.default_backend(), BYTES["cpu"])
    add = jax.jit(lambda value: value + 1, donate_argnums=0)
    return 2 * size / _seconds(add, jnp.zeros(size // 4, jnp.float32))


def _seconds(call: Callable[[jax.Array], jax.Array], value: jax.Array) -> float:
    """The best of some repeats; a call takes what the one before returned."""
    value = jax.block_until_ready(call(value))  # compiled
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(CALLS):
            value = call(value)
        value.block_until_ready()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best


def rates(dtype: str) -> dict[str, Any]:
    """Both rates, as they go into a result."""
    return {"dtype": dtype, "flops": matrix_rate(dtype), "bytes": bandwidth()}


def forward_flops(module: nn.Module, size: int) -> float:
    """FLOPs of a forward pass of one image, two for each multiply-add, as XLA counts them.

    Counted before XLA rewrites anything, so it is the same on every backend. What a convolution
    multiplies with its padding does not count, so this is less than the published figures (those of
    `delt_jax.models.cost`), and what has to be computed at the least.
    """
    variables = registry.variable_shapes(module, size)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    forward = jax.jit(lambda variables, images: module.apply(variables, images, train=False))
    analysis = forward.lower(variables, images).cost_analysis()
    assert analysis is not None  # every backend counts before compilation
    return float(analysis["flops"])


def peak_memory() -> dict[str, int]:
    """Most bytes held so far: by the device where it tells, else by this process."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return {"device_peak_bytes": int(statistics["peak_bytes_in_use"])}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def demand(executable: jax.stages.Compiled) -> dict[str, float]:
    """What a compiled program asks for, by XLA's count; a loop's body counts once.

    Returns:
      `bytes_accessed` by all operations after fusion, as if nothing stayed in a cache, and of
      memory `temp_bytes` beside `argument_bytes`; without what the backend does not tell.
    """
    found: dict[str, float] = {}
    costs: Any = executable.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    if costs and "bytes accessed" in costs:
        found["bytes_accessed"] = float(costs["bytes accessed"])
    memory = executable.memory_analysis()
    if memory is not None:
        found["temp_bytes"] = float(memory.temp_size_in_bytes)
        found["argument_bytes"] = float(memory.argument_size_in_bytes)
    return found
