"""Standard output and error that may go away, as a terminal or the reader of a pipe does."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO)


class _Lasting:
    """A stream whose writes do not fail: words that nobody can read are worth no work."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Flushes for the last time: the interpreter, too, flushes, and fails if that does."""
        try:
            self._stream.flush()
        except OSError:
            _lead_nowhere(self._stream)

    def _give_up(self, error: OSError) -> None:
        # What is gone does not come back, unlike the room on the disk of a log.
        if error.errno in _GONE:
            _lead_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Within it printing does not fail, nor does it fail the end of the program."""
    before = sys.stdout, sys.stderr
    # None is a stream that was closed before the program began (`>&-`); print writes nothing there.
    lasting = [_Lasting(stream) if stream else None for stream in before]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in lasting)
    try:
        yield
    finally:
        for stream in filter(None, lasting):
            stream.close()
        sys.stdout, sys.stderr = before


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
