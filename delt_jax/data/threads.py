"""Independent pieces of work on all cores, by threads: Pillow and hashlib leave Python's lock."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from delt_jax.data.workers import available_cores

_CHUNK = 16  # pieces that a thread takes at once


def for_each(count: int, work: Callable[[int], Any]) -> None:
    """Calls `work` with every number below `count`; raises the error of the first that fails."""

    def chunk(start: int) -> None:
        for number in range(start, min(start + _CHUNK, count)):
            work(number)

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="images") as pool:
        for _ in pool.map(chunk, range(0, count, _CHUNK)):
            pass
