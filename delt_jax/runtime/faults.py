"""Faults of the machine, told from errors in the program: one line says what to do."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime.interruption import GOES_ON

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, a limit of the process
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_LOST = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO)
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# TensorStore, below Orbax, raises ValueError with the number and the path in its text.
_NUMBER = re.compile(r"os_error_code='(\d+)'")
_PATH = re.compile(r"\"(/[^\"]+)\"")


def explained(error: BaseException) -> InputError | Interrupted | None:
    """What an error is that a disk has raised, through whatever library; None for any other.

    Returns:
      `Interrupted` where the disk is full or does not answer, which passes; `InputError` where it
      refuses to be written or read. Both name the file or folder.
    """
    for one in _chain(error):
        number = _errno(one)
        reason = os.strerror(number)
        name = _file_name(one)
        where = name or "a file"
        if number in _FULL:
            return Interrupted(f"{where}: {reason}{_free(name)}; make room; {GOES_ON}")
        if number in _LOST:
            return Interrupted(f"{where}: {reason}; see to the disk; {GOES_ON}")
        if number in _REFUSED:
            return InputError(
                f"{where}: {reason}; expected files that can be read and folders that can be "
                "written; then the same command goes on"
            )
    return None


def is_out_of_device_memory(error: BaseException) -> bool:
    """Whether XLA found too little memory on a device."""
    import jax

    return isinstance(error, jax.errors.JaxRuntimeError) and any(
        words in str(error) for words in ("RESOURCE_EXHAUSTED", "ut of memory")
    )


def pass_on(error: BaseException, name: str) -> None:
    """Raises an error again that says nothing of the file it came from, and lets it tell that file.

    The machine has failed: its disk does not answer, memory or open files are used up. A file that
    is broken or not there is another matter.
    """
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and error.errno in (*_LOST, *_SCARCE):
        if error.filename is None:  # as from reading what is open already
            error.filename = name
        raise error


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk, a quota or a limit on files has no room."""
    return any(_errno(one) in _FULL for one in _chain(error))


@contextlib.contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
    """Lets an `OSError` from within tell the file, which `file.write` and `fsync` leave out."""
    try:
        yield
    except Exception as error:
        for one in _chain(error):  # torch.save raises words of its own on top of it
            if isinstance(one, OSError) and one.filename is None:
                one.filename = str(path)
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the latest first."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _errno(error: BaseException) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else 0


def _file_name(error: BaseException) -> str:
    if isinstance(error, OSError):
        return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    found = _PATH.search(str(error))
    return found[1] if found else ""


def _free(name: str) -> str:
    """Where a file's disk is, and what is free there; the nearest folder that there is yet."""
    if not name:
        return ""
    folder = pathlib.Path(name).absolute()
    while not folder.is_dir():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return f" ({usage.free:,} of {usage.total:,} bytes are free now in {folder})"
