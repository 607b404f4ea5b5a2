"""Progress of long work: done, rate, time left; a bar on a terminal, lines in a log."""

import sys
import time

from tqdm import tqdm

from delt_jax.runtime import hosts

LOG_SECONDS = 10.0  # between two lines where there is no terminal


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
        self._silent = not hosts.current().is_first  # whose share is as large as the others'
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
