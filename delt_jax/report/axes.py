"""Axes of the figures: round tick values, and positions in percent, so that figures can stretch."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high` with labelled `ticks`."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Position of `value` along the axis, in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def label(self, tick: float) -> str:
        """`tick` with just the digits that tell the ticks apart."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
        return f"{tick:,.{digits}f}"


def axis(values: Sequence[float], count: int = 6, floor: float | None = None) -> Axis:
    """An axis over finite `values` whose ends are ticks.

    Args:
      values: what has to fit; at least one.
      count: about how many ticks.
      floor: the axis does not reach below this (e.g. 0 for percentages).
    """
    low, high = min(values), max(values)
    if high - low < 1e-9:
        margin = abs(high) * 0.05 or 1.0
        low, high = low - margin, high + margin
    step = _round_step((high - low) / max(count - 1, 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if floor is not None:
        first = max(first, math.ceil(floor / step))
    ticks = tuple(round(step * index, 12) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def iteration_axis(iterations: int, round_iterations: int) -> Axis:
    """Zero to `iterations` with ticks on round boundaries, at most about nine of them."""
    stride = max(1, math.ceil(iterations / round_iterations / 8))
    ticks = [float(t) for t in range(0, iterations + 1, stride * round_iterations)]
    return Axis(0.0, float(iterations), tuple(ticks))


def polyline(xs: Sequence[float], ys: Sequence[float], x_axis: Axis, y_axis: Axis) -> str:
    """SVG path data in a box of 100 by 100, y down; `preserveAspectRatio="none"` stretches it."""
    points = [f"{x_axis.at(x):g} {round(100 - y_axis.at(y), 2):g}" for x, y in zip(xs, ys)]
    return "M" + "L".join(points) if points else ""


def thin(count: int, most: int) -> list[int]:
    """At most `most` of the indices `0..count-1`, evenly spread, first and last included."""
    if count <= most:
        return list(range(count))
    if most < 2:
        return [0]
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))
