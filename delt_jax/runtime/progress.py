"""Progress of long work: done, rate, time left; a bar on a terminal, lines in a log."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from tqdm import tqdm

from delt_jax.runtime import hosts

LOG_SECONDS = 10.0  # between two lines where there is no terminal


@dataclasses.dataclass(frozen=True)
class Advance:
    """How far some work is, for whoever listens.

    Attributes:
      what: is going on, e.g. "synthesize".
      done: units that are done.
      total: units of the whole.
      unit: what is counted, e.g. "image-iterations".
      values: what was measured last, e.g. {"loss": 2.3}.
    """

    what: str
    done: int
    total: int
    unit: str
    values: Mapping[str, float]


_listeners: list[Callable[[Advance], object]] = []  # the last one hears


@contextlib.contextmanager
def listening(listener: Callable[[Advance], object] | None) -> Iterator[None]:
    """Within it, `listener` is called in place of bars and lines; None leaves them as they are.

    What it raises goes through to whoever does the work, which ends it.
    """
    if listener is None:
        yield
        return
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()


class Progress:
    """Progress of `total` units; use as a context manager.

    Args:
      total: units of work altogether.
      description: what is going on, e.g. "synthesize".
      unit: what is counted, e.g. "image-iterations".
      done: units that an earlier, interrupted run did already (kept out of the rate).
    """

    def __init__(self, total: int, description: str, unit: str = "it", done: int = 0):
        self._terminal = sys.stderr.isatty()
        self._listener = _listeners[-1] if _listeners else None
        # One of several hosts speaks: its share is as large as the others'.
        self._silent = self._listener is not None or not hosts.current().is_first
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=description,
            unit=f" {unit}",
            unit_scale=total >= 100_000,
            smoothing=0.05,
            dynamic_ncols=True,
            disable=self._silent or not self._terminal,
        )
        self._total, self._done = total, done
        self._description, self._unit = description, unit
        self._start = self._last_line = time.monotonic()
        self._rate_from = (self._start, done)
        self._advanced = self._ended = False
        self._values = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        took_time = time.monotonic() - self._start > 1
        if not self._terminal and exception[0] is None and took_time and not self._ended:
            self._print_line()

    def advance(self, n: int = 1, **values: float) -> None:
        """Counts `n` units as done and shows `values` beside them."""
        self._done += n
        if n and not self._advanced:  # compiling belongs to the first: it would spoil the time left
            self._advanced = True
            if self._done < self._total:
                self._rate_from = (time.monotonic(), self._done)
        if self._listener is not None:
            values = {name: float(value) for name, value in values.items()}
            self._listener(Advance(self._description, self._done, self._total, self._unit, values))
            return
        self._values = "".join(f" {name} {value:.4g}" for name, value in values.items())
        if self._terminal:
            self._bar.set_postfix_str(self._values.strip(), refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._last_line >= LOG_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        if self._silent:
            return
        self._ended = self._done >= self._total  # said already, then
        since, before = self._rate_from
        rate = (self._done - before) / max(self._last_line - since, 1e-9)
        if self._done >= self._total:
            pace = f"{rate:,.3g}/s, {_duration(self._last_line - self._start)}"
        elif rate:
            pace = f"{rate:,.3g}/s, {_duration((self._total - self._done) / rate)} left"
        else:
            pace = "under way"  # nothing but the first call is done, which tells no rate
        print(
            f"{self._description}: {self._done:,}/{self._total:,} {self._unit}, "
            f"{pace}{self._values}",
            file=sys.stderr,
            flush=True,
        )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
