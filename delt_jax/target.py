"""The platform that programs are made for: this process's own, or that of a machine elsewhere.

XLA's backends are good at different forms of the same arithmetic. Where a part of the numerics has
several, equal up to rounding, it asks here which to take, and says why.
"""

import contextlib
from collections.abc import Iterator

import jax

_elsewhere: str | None = None


def platform() -> str:
    """What XLA's backend is called: "cpu", "gpu" or "tpu"."""
    return _elsewhere or jax.default_backend()


@contextlib.contextmanager
def made_for(name: str) -> Iterator[None]:
    """Within it, programs are traced for another platform.

    To compile for a machine that is not here, and to compare the forms on one that is. Not for
    several threads. What jax has traced before is forgotten, for it may have the other form.

    Args:
      name: as `platform` returns.
    """
    global _elsewhere
    before, _elsewhere = _elsewhere, name
    jax.clear_caches()
    try:
        yield
    finally:
        _elsewhere = before
        jax.clear_caches()
