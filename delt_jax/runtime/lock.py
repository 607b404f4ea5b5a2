"""One run at a time in a work directory.

The system holds the lock, and frees it with the process, however that ends; several systems that
share the folder hold it together, where their file system does (NFS from version 4, Lustre, GPFS).
It is `fcntl` alone: what `filelock` has beyond it (waiting, Windows, soft locks) is not wanted,
and the holder's name is to be written into the very file.
"""

import contextlib
import fcntl
import json
import logging
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from delt_jax.errors import InputError
from delt_jax.runtime import faults, strict_json

FILE = ".lock"


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Within it no other process can hold `folder`, which there is.

    Raises:
      InputError: naming the process that holds it.
    """
    # Not passed on to child processes, which may outlive this one.
    path = folder / FILE
    with path.open("a+", encoding="utf-8") as file:
        is_locked = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"workdir {str(folder)!r}: {_holder(file.read())} runs there; expected one run at "
                "a time: let it end, or choose another --workdir"
            ) from None
        except OSError as error:
            logging.warning("%s: cannot be locked (%s); start one run only", folder, error.strerror)
        if is_locked:
            note = {"host": socket.gethostname(), "process": os.getpid(), "since": _now()}
            with faults.named(path):
                file.truncate(0)
                file.write(strict_json.dumps(note) + "\n")
                file.flush()
        yield


def _holder(text: str) -> str:
    """Who holds a lock, in words, from what is written in it."""
    try:
        note = json.loads(text)
        return f"process {note['process']} of host {note['host']}, since {note['since']},"
    except (ValueError, KeyError, TypeError):
        return "another process"  # which has not written its name yet


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")
