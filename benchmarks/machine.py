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
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from delt_jax.models import registry
from delt_jax.runtime.matrix_rate import best_seconds, matrix_rate

BYTES = {"cpu": 2**27, "gpu": 2**30, "tpu": 2**30}  # of the array that is passed over


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


def bandwidth(size: int | None = None) -> float:
    """Bytes per second of adding to a large float32 array in place: each is read and written.

    Args:
      size: of the array in bytes; None: far more than the caches of the device.
    """
    size = size or BYTES.get(jax.default_backend(), BYTES["cpu"])
    add = jax.jit(lambda value: value + 1, donate_argnums=0)
    return 2 * size / best_seconds(add, jnp.zeros(size // 4, jnp.float32))


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
