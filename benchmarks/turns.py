"""Two sides that do the same work in turns, so that a machine that slows down slows both."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Seconds = Mapping[Any, Sequence[float]]  # what was timed -> the times of one turn
Side = Callable[[], Seconds]
OURS, THEIRS = "ours", "theirs"


def take_turns(sides: Mapping[str, Side], turns: int) -> dict[str, dict[Any, float]]:
    """Runs the sides one after the other, again and again.

    Args:
      sides: by name; each call is a turn. Each has had one before, which compiled and allocated.
      turns: of each side.

    Returns:
      For each side, the median seconds of everything that it timed.
    """
    seconds: dict[str, dict[Any, list[float]]] = {name: {} for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            for what, times in side().items():
                seconds[name].setdefault(what, []).extend(times)
    return {
        name: {what: float(np.median(times)) for what, times in of_side.items()}
        for name, of_side in seconds.items()
    }


def compare(images: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Images per second of each side, and ours as a multiple of theirs.

    Args:
      images: that a step takes on, by side.
      seconds: of a step, by side.
    """
    rates = {name: images[name] / of_side for name, of_side in seconds.items()}
    row: dict[str, Any] = {"seconds": dict(seconds), "images_per_second": rates}
    if THEIRS in rates and OURS in rates:
        row["ratio"] = rates[OURS] / rates[THEIRS]
    return row
