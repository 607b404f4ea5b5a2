"""SIGTERM, SIGHUP and Ctrl-C: a run that is asked to end saves what it has, and ends in seconds.

A signal raises in the main thread: at once, or, within `held_back`, at the next `check`, which is
where the work can be saved. A second signal ends the process there and then, as does the first one
where nothing has come of it in time, as while XLA compiles.
"""

import contextlib
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

from delt_jax.errors import Interrupted

INTERRUPTED, CTRL_C = 75, 130  # exit statuses; 75 is EX_TEMPFAIL: try it again
# From the signal to the place where the work can be saved, and from there to the end. A machine
# that is taken away gives 30 s (spot machines of Google Cloud, Slurm's KillWait).
GRACE_SECONDS = 25.0
SAME_SECONDS = 1.0  # what follows so soon is one request, sent to a process and to its parent
GOES_ON = "what is done is kept, and the same command goes on from there"
_WORDS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP, the terminal is gone",
}


class _Request:
    """That this process has been asked to end, if it has."""

    def __init__(self):
        self.number = 0  # of the signal
        self.held_back = 0  # how many contexts hold it back
        self.is_told = False  # to people, by who caught the error
        self.deadline: float | None = None  # of a signal; inf while work is being saved

    def error(self) -> BaseException:
        if self.number == signal.SIGINT:
            return KeyboardInterrupt()
        return Interrupted(f"{_WORDS[signal.Signals(self.number)]}; {GOES_ON}")


_request = _Request()


def is_asked() -> bool:
    """Whether the run is to end: then the one who asks saves, and calls `check`.

    From here on, saving may take its time.
    """
    if _request.number:
        _request.deadline = math.inf
    return bool(_request.number)


def check() -> None:
    """Raises `Interrupted` (`KeyboardInterrupt` for Ctrl-C) where the run is to end."""
    if _request.number:
        _request.deadline = time.monotonic() + GRACE_SECONDS
        raise _request.error()


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Within it, work is being saved, which may take its time, also where a signal comes then."""
    _request.deadline = math.inf
    try:
        yield
    finally:
        _request.deadline = time.monotonic() + GRACE_SECONDS if _request.number else None


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Within it, signals wait for `check`, or for its end, so that nothing is left half done."""
    _request.held_back += 1
    try:
        yield
    finally:
        _request.held_back -= 1
    if not _request.held_back:
        check()


@contextlib.contextmanager
def heeded(end: Callable[[int], object] = os._exit) -> Iterator[None]:
    """Within it, this process heeds signals; the main thread's to enter.

    SIGHUP stays ignored where it is, as under `nohup`.

    Args:
      end: ends the process with an exit status, at once.
    """
    numbers = [n for n in _WORDS if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, _on_signal) for number in numbers}
    # Python calls its handlers between two of the main thread's instructions; bytes come at once.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, end), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        _request.is_told = True
        if not _request.number:  # else the watcher sees to it that the process does end
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)
            watcher.join()


def _on_signal(number: int, frame: object) -> None:
    if _request.number:  # the watcher's concern
        return
    _request.number = number
    if not _request.held_back:
        check()


def _watch(reader: int, end: Callable[[int], object]) -> None:
    """Ends the process at a second signal, or where the first one has not ended it in time."""
    number = os.read(reader, 1)
    if not number:
        os.close(reader)
        return
    status = CTRL_C if number[0] == signal.SIGINT else INTERRUPTED
    first = time.monotonic()
    while True:
        again = bool(select.select([reader], [], [], 0.2)[0]) and bool(os.read(reader, 1))
        now = time.monotonic()
        if again and now - first > SAME_SECONDS:
            why = "by a second signal, at once"
        elif now > (_request.deadline or first + GRACE_SECONDS):
            why = f"not ended within {GRACE_SECONDS:.0f} s of the signal"
        else:
            continue
        line = f"interrupted: {why}; what was saved before is kept\n"
        with contextlib.suppress(OSError):
            if not _request.is_told:
                os.write(2, line.encode())  # the main thread may hold sys.stderr
        end(status)
        return
