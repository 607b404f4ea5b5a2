"""The EarlyLate schedule as a picture: slots by iterations, learning rate and crop above them."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from delt_jax.report.axes import Axis, iteration_axis, polyline, thin

CURVE_HEIGHT = 64  # px, of the learning-rate and the crop panel each
CURVE_GAP = 26  # px, between panels; holds a panel's title
ROW_HEIGHTS = ((12, 34), (20, 26), (40, 10), (10**9, 6))  # (up to so many slots, px of each)
THUMBNAIL = 26  # px, side of the photo where a slot joins and of the image where it ends


@dataclasses.dataclass(frozen=True)
class Bar:
    """One slot; `x` and `width` in percent of the time axis, `y` and `height` in px."""

    rank: int
    round: int
    x: float
    width: float
    y: float
    height: float


@dataclasses.dataclass(frozen=True)
class Lane:
    """What is labelled together: one slot, or where slots are thin all slots of a join round."""

    round: int
    ranks: str  # "3", or "0-6" with an en dash
    first_rank: int
    x: float
    end: float
    y: float
    height: float
    iterations: int

    @property
    def middle(self) -> float:
        """In px."""
        return self.y + self.height / 2


@dataclasses.dataclass(frozen=True)
class Join:
    """A join on the learning-rate curve; positions in percent of the panel."""

    round: int
    x: float
    y: float
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Everything the template draws."""

    time: Axis
    iterations: int
    rounds: int
    round_iterations: int
    boundaries: tuple[float, ...]  # percent; starts of rounds 1 .. M-1
    bars: tuple[Bar, ...]
    lanes: tuple[Lane, ...]
    bars_height: float
    learning_rate_path: str
    learning_rate_axis: Axis | None
    joins: tuple[Join, ...]
    fade: tuple[tuple[float, float], ...]  # (percent, share of the peak learning rate)
    crop_path: str
    crop_axis: Axis
    saved_fraction: float
    slots: int

    @property
    def roomy(self) -> bool:
        """Whether the values beside the joins do not run into one another."""
        places = [join.x for join in self.joins]
        return all(later - earlier > 9 for earlier, later in itertools.pairwise(places))

    @property
    def late_share(self) -> float:
        """Learning rate at the last join, as a share of the peak; 1 where it is not known."""
        if not self.joins or self.learning_rate_axis is None:
            return 1.0
        return self.joins[-1].learning_rate / self.learning_rate_axis.high

    @property
    def thumbnails(self) -> bool:
        """Whether the lanes are tall enough to show photos."""
        return all(lane.height >= THUMBNAIL for lane in self.lanes)


def build_timeline(schedule: dict[str, Any]) -> Timeline | None:
    """Lays the picture out.

    Args:
      schedule: synthesis/schedule.json.

    Returns:
      The layout; None where the file lacks the join rounds (nothing was synthesised).
    """
    joins = schedule.get("join_rounds")
    if not joins or not schedule.get("iterations"):
        return None
    total, length = int(schedule["iterations"]), int(schedule["round_iterations"])
    rounds = max(total // length, 1)
    time = iteration_axis(total, length)
    starts = [time.at(r * length) for r in range(rounds)]

    row = next(height for most, height in ROW_HEIGHTS if len(joins) <= most)
    gap = 8 if row >= THUMBNAIL else 2
    bars, lanes, y = [], [], 0.0
    for round_index in sorted(set(joins)):
        ranks = [rank for rank, join in enumerate(joins) if join == round_index]
        x, top = starts[round_index], y
        for rank in ranks:
            bars.append(Bar(rank, round_index, x, round(100 - x, 3), y + gap / 2, row - gap))
            y += row
        groups = [[rank] for rank in ranks] if row >= 26 else [ranks]
        if row < 26:
            y = max(y, top + THUMBNAIL + 4) if len(ranks) * row >= THUMBNAIL / 2 else y
            y += 6  # air between the rounds
        for index, group in enumerate(groups):
            lanes.append(
                Lane(
                    round=round_index,
                    ranks=str(group[0]) if len(group) == 1 else f"{group[0]}\N{EN DASH}{group[-1]}",
                    first_rank=group[0],
                    x=x,
                    end=100.0,
                    y=top + index * row,
                    height=row if row >= 26 else y - top - 6,
                    iterations=total - round_index * length,
                )
            )

    rates = [float(v) for v in schedule.get("learning_rate") or []]
    crops = [float(v) for v in schedule.get("min_crop") or []]
    peak = max(rates, default=0.0)
    rate_axis = Axis(0.0, peak, (0.0, peak)) if peak > 0 else None
    crop_axis = Axis(0.0, 1.0, (0.0, 1.0))
    active_share = sum(total - join * length for join in joins) / (total * len(joins))
    return Timeline(
        time=time,
        iterations=total,
        rounds=rounds,
        round_iterations=length,
        boundaries=tuple(starts[1:]),
        bars=tuple(bars),
        lanes=tuple(lanes),
        bars_height=y,
        learning_rate_path=_curve(rates, time, rate_axis) if rate_axis else "",
        learning_rate_axis=rate_axis,
        joins=_joins(sorted(set(joins)), rates, time, rate_axis, length) if rate_axis else (),
        fade=_fade(rates),
        crop_path=_curve(crops, time, crop_axis) if crops else "",
        crop_axis=crop_axis,
        saved_fraction=1 - active_share,
        slots=len(joins),
    )


def _curve(values: Sequence[float], time: Axis, y_axis: Axis) -> str:
    """The path of a curve whose values are spread evenly over the run; at most 400 points of it."""
    kept = thin(len(values), 400)
    times = [time.high * i / len(values) for i in kept]
    return polyline(times, [values[i] for i in kept], time, y_axis)


def _joins(
    rounds: Sequence[int], rates: Sequence[float], time: Axis, rate_axis: Axis, length: int
) -> tuple[Join, ...]:
    marks = []
    for round_index in rounds:
        t = round_index * length
        rate = rates[min(round(t / time.high * len(rates)), len(rates) - 1)]
        marks.append(Join(round_index, time.at(t), round(100 - rate_axis.at(rate), 2), rate))
    return tuple(marks)


def _fade(rates: Sequence[float]) -> tuple[tuple[float, float], ...]:
    peak = max(rates, default=0.0)
    if peak <= 0:
        return ((0.0, 1.0), (100.0, 1.0))
    kept = thin(len(rates), 13)
    return tuple((round(100 * i / max(len(rates) - 1, 1), 2), rates[i] / peak) for i in kept)
