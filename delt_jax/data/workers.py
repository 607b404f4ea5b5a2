"""Processes that decode images, where the threads of one would wait for each other.

They are the standard library's rather than those of Grain's `mp_prefetch` (0.2.18), which pass
batches on in shared memory: a container has 64 MB of it unless told otherwise, and a worker that
needs more dies; a thread frees it that the end of the program outruns, hence warnings of leaks; and
after a `kill -9` of the run its workers stay. Here batches come through pipes.
"""

import contextlib
import mmap
import multiprocessing
import multiprocessing.reduction
import os
import pathlib
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from delt_jax.data.arrays import ArraySource
from delt_jax.data.image_source import ImageSource
from delt_jax.errors import InputError
from delt_jax.runtime import faults, interruption

AUTO = -1
AUTO_MORE_CORES = 4  # auto takes processes on machines with more cores, for splits of
AUTO_MORE_IMAGES = 5000  # more images: each process takes seconds to start


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_workers(workers: int, source: ImageSource, cores: int | None = None) -> int:
    """Returns how many processes `config.data.workers` stands for.

    Args:
      workers: as many; -1 (auto): all cores but one, where there are more than four and the source
        has more than 5,000 images that need decoding; else 0, the threads of this process.
      source: the images.
      cores: None for those available.
    """
    if workers != AUTO:
        return workers
    cores = available_cores() if cores is None else cores
    is_large = len(source) > AUTO_MORE_IMAGES and not isinstance(source, ArraySource)
    return cores - 1 if is_large and cores > AUTO_MORE_CORES else 0


@contextlib.contextmanager
def spread(function: Callable[..., Any], workers: int) -> Iterator[Callable[..., Any]]:
    """Gives `function`, called in one of `workers` processes; with 0, as it is.

    The calls may come from several threads. Processes are started by the first call, and end with
    this context or with this process, however it ends.

    Args:
      function: is sent to each process once; picklable.
      workers: processes.

    Raises:
      InputError: from a call, where a process has died.
    """
    if not workers:
        yield function
        return
    handed: Any = _Handed(function)
    pool = ProcessPoolExecutor(
        workers,
        # A fork would copy the locks of JAX's threads as they happen to be.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(handed,),
    )

    def call(*args: Any) -> Any:
        try:
            return pool.submit(_call, *args).result()
        except BrokenProcessPool as error:
            interruption.check()  # it had the same signal, before it could learn to ignore it
            raise InputError(
                f"one of {workers} processes that decode images has died, perhaps for lack of "
                "memory; expected it to live, or a smaller data.workers (0: none)"
            ) from error

    try:
        yield call
    finally:
        pool.shutdown(cancel_futures=True)
        handed.close()


class _Handed:
    """What processes get by a nameless file rather than through the pipe that starts them.

    `multiprocessing` holds the reading end of that pipe open itself while it writes: what is larger
    than the pipe (64 KiB; a function here holds the names of all images), to a process that dies
    before it reads, is waited for forever.

    Args:
      value: picklable.
    """

    def __init__(self, value: Any):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is open until `close`)
        with faults.named(pathlib.Path(tempfile.gettempdir())):
            pickle.dump(value, self._file, pickle.HIGHEST_PROTOCOL)
            self._file.flush()

    def close(self) -> None:
        """Once no process will begin any more."""
        self._file.close()

    def __reduce__(self):
        return _take, (multiprocessing.reduction.DupFd(self._file.fileno()),)


def _take(duplicate: Any) -> Any:
    with (
        open(duplicate.detach(), "rb") as file,  # noqa: PTH123 (it has no path)
        # Mapped, because its position is shared with the other processes.
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return pickle.loads(content)


_function: Callable[..., Any]  # of this process, where it is a worker


def _begin(function: Callable[..., Any]) -> None:
    global _function
    _function = function
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(*args: Any) -> Any:
    return _function(*args)
