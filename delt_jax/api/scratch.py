"""Work directories that nobody sees: the stages write to one, and the API reads from it."""

import contextlib
import tempfile
from collections.abc import Iterator

from delt_jax.runtime.workdir import WorkDir


@contextlib.contextmanager
def scratch() -> Iterator[WorkDir]:
    """A work directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="delt_jax-") as folder:
        yield WorkDir(folder)
