"""A limit on the size of files, which stands in for a full disk."""

import contextlib
import resource


@contextlib.contextmanager
def files_of_at_most(size):
    """As on a full disk: a write beyond `size` bytes fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
