"""How fast this machine's first device multiplies matrices: what no network on it can exceed."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # of the square matrices
CALLS = 5  # in flight at once, so that their dispatch does not count
REPEATS = 5  # of which the fastest counts: it is a ceiling that is looked for


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
    return 2 * side**3 / best_seconds(lambda value: product(value, matrix), matrix)


def best_seconds(call: Callable[[jax.Array], jax.Array], value: jax.Array) -> float:
    """Seconds of a call, the best of some repeats; each takes what the one before returned."""
    value = jax.block_until_ready(call(value))  # compiled
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(CALLS):
            value = call(value)
        value.block_until_ready()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best
