"""What takes a pass over a data set to learn: learnt once, kept on this machine."""

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable

import numpy as np

from delt_jax.runtime.download import cache_folder
from delt_jax.runtime.workdir import WorkDir


def kept(what: str, identity: str, learn: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns what `learn` returned the first time; afterwards from the cache folder.

    Args:
      what: names the kind of fact, e.g. "labels".
      identity: of the data set: everything that the fact depends on.
      learn: the long way to it.
    """
    digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
    path = cache_folder() / "data" / f"{what}-{digest}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or not whole
        return np.load(path, allow_pickle=False)
    value = learn()
    content = io.BytesIO()
    np.save(content, value, allow_pickle=False)
    try:
        WorkDir(path.parent).write_bytes(path, content.getvalue())
    except OSError as error:  # then it is learnt again the next time
        logging.warning("%s: cannot be written (%s)", path, error.strerror)
    return value
