"""Random streams by name, so that no stage's draws depend on what another stage drew."""

import zlib

import jax
from jaxtyping import Array, Key


def stream(seed: int, *names: str | int) -> Key[Array, ""]:
    """Returns the key of a named stream.

    Args:
      seed: the run's seed.
      *names: a path such as `"synthesis", 12`; strings enter by their CRC-32, integers as they are.

    Returns:
      A typed key; the same for the same arguments on every platform and device count.
    """
    key = jax.random.key(seed)
    for name in names:
        key = jax.random.fold_in(key, zlib.crc32(name.encode()) if isinstance(name, str) else name)
    return key


def numpy_seed(seed: int, *names: str | int) -> list[int]:
    """Returns the same path as entropy for `numpy.random.default_rng` (draws made on the host)."""
    return [seed, *(zlib.crc32(n.encode()) if isinstance(n, str) else n for n in names)]
