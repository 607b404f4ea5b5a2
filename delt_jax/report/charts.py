"""Layouts of the smaller figures: accuracies, diversity, losses by round, seconds by round."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from delt_jax.report.axes import Axis, axis, iteration_axis, polyline, thin
from delt_jax.report.record import Evaluation
from delt_jax.report.results import in_order

CURVE_POINTS = 500  # points kept of a curve
SPARSE = 40  # points of a curve up to which each is marked
LOSSES = {  # what the synthesis logs -> what people call it
    "loss": "total loss",
    "loss_ce": "cross-entropy",
    "loss_bn": "BatchNorm matching",
}


@dataclasses.dataclass(frozen=True)
class Dot:
    """A mean with its deviation and what it is the mean of; positions in percent of the axis."""

    set: str
    x: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    mean: float
    std: float | None
    n: int
    paper: float | None = None  # the paper's number, in percent of the axis


@dataclasses.dataclass(frozen=True)
class DotGroup:
    """The dots of one student."""

    name: str
    dots: tuple[Dot, ...]

    @property
    def size(self) -> int:
        """How many rows it takes."""
        return len(self.dots)


@dataclasses.dataclass(frozen=True)
class DotPlot:
    """Rows of dots over one axis; `reference` is a line (percent), None where off the axis."""

    axis: Axis
    groups: tuple[DotGroup, ...]
    reference: float | None


@dataclasses.dataclass(frozen=True)
class Segment:
    """The part of a curve that lies in one round."""

    round: int
    path: str
    band: str  # closed path between the lowest and the highest class batch; "" for one class batch
    dots: tuple[tuple[float, float], ...]  # percent; () where the points are many


@dataclasses.dataclass(frozen=True)
class LossPanel:
    """One loss over the iterations."""

    name: str
    time: Axis
    values: Axis
    segments: tuple[Segment, ...]
    thread: str  # the whole curve, which ties the segments together
    first: float
    last: float

    @property
    def banded(self) -> bool:
        """Whether there is more than one class batch to range over."""
        return any(segment.band for segment in self.segments)


@dataclasses.dataclass(frozen=True)
class Curve:
    """One set's curve; `band` is the range over seeds, "" for none."""

    set: str
    path: str
    band: str


@dataclasses.dataclass(frozen=True)
class CurvePanel:
    """Curves of several sets over one axis: what they are, and what the axis is."""

    title: str
    over: str
    along: Axis
    values: Axis
    curves: tuple[Curve, ...]

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the sets."""
        return tuple(curve.set for curve in self.curves)


@dataclasses.dataclass(frozen=True)
class Pace:
    """Cost of an iteration of one class batch in one round."""

    round: int
    active: float  # slots, a mean over the class batches that have the round
    seconds: float
    share: float  # of the slowest round, in percent


def top1_dot(name: str, summary: dict[str, Any], scale: Axis, paper: float | None = None) -> Dot:
    """The seeds of one student and set, their mean and deviation, on an axis of percent.

    Args:
      name: of the set, or of what else the row stands for.
      summary: `top1_mean`, `top1_std`, `n` and `seeds`, as in results.json.
      scale: the axis.
      paper: the paper's number.
    """
    mean, std = summary["top1_mean"], summary["top1_std"]
    return Dot(
        set=name,
        x=scale.at(mean),
        low=None if std is None else scale.at(mean - std),
        high=None if std is None else scale.at(mean + std),
        values=tuple(scale.at(seed["top1"]) for seed in summary["seeds"].values()),
        mean=mean,
        std=std,
        n=summary["n"],
        paper=None if paper is None else scale.at(paper),
    )


def accuracy_plot(students: dict[str, Any], teacher_top1: float | None) -> DotPlot | None:
    """Accuracies of every student and set, with the seeds behind each mean."""
    values, groups = [], []
    for sets in students.values():
        for summary in sets.values():
            mean, std = summary["top1_mean"], summary["top1_std"] or 0.0
            values += [mean - std, mean + std, *(s["top1"] for s in summary["seeds"].values())]
    if not values:
        return None
    scale = padded_axis(values, floor=0.0, ceiling=100.0)
    for name, sets in students.items():
        dots = []
        for chosen, summary in sets.items():
            dots.append(top1_dot(chosen, summary, scale))
        groups.append(DotGroup(name, tuple(dots)))
    reference = None
    if teacher_top1 is not None and scale.low <= teacher_top1 <= scale.high:
        reference = scale.at(teacher_top1)
    return DotPlot(scale, tuple(groups), reference)


def diversity_plot(diversity: dict[str, dict[str, Any]], order: Sequence[str]) -> DotPlot | None:
    """Intra-class cosine of every set; the small dots are classes."""
    if not order:
        return None
    values = []
    for summary in map(diversity.__getitem__, order):
        values += [summary["mean"], *_measured(summary)]
    scale = padded_axis(values, ceiling=1.0)
    dots = []
    for name in order:
        per_class = _measured(diversity[name])
        shown = tuple(scale.at(per_class[i]) for i in thin(len(per_class), 60))
        mean = diversity[name]["mean"]
        dots.append(Dot(name, scale.at(mean), None, None, shown, mean, None, len(per_class)))
    return DotPlot(scale, (DotGroup("", tuple(dots)),), None)


def class_curves(diversity: dict[str, dict[str, Any]], order: Sequence[str]) -> list[CurvePanel]:
    """The cosines of every set's classes, ascending: to the centroid, and of pairs.

    Real training images are among the pairs alone: there are more of them than images of a set, and
    the cosine to the centroid falls with their number.
    """
    of_pairs = {name: entry.get("pairwise") or {} for name, entry in diversity.items()}
    panels = []
    for words, summaries, names in (
        ("to the centroid", diversity, order),
        ("of pairs", of_pairs, in_order(of_pairs)),
    ):
        sets = {name: sorted(_measured(summaries[name])) for name in names}
        sets = {name: values for name, values in sets.items() if len(values) > 1}
        if not sets:
            continue
        ranks = axis([1.0, *(float(len(values)) for values in sets.values())], floor=0.0)
        scale = axis([value for values in sets.values() for value in values], count=5)
        curves = []
        for name, values in sets.items():
            kept = thin(len(values), CURVE_POINTS)
            path = polyline([k + 1 for k in kept], [values[k] for k in kept], ranks, scale)
            curves.append(Curve(name, path, ""))
        title = f"Cosine {words} by class, ascending"
        panels.append(CurvePanel(title, f"classes by cosine {words}", ranks, scale, tuple(curves)))
    return panels


def continual_curves(students: dict[str, Any]) -> list[CurvePanel]:
    """Accuracy by the number of classes seen, a panel a student; bands are the deviations.

    Args:
      students: `continual` of results.json.
    """

    def edge(row: dict[str, Any], sign: int) -> float:
        return max(0.0, row["top1_mean"] + sign * (row["top1_std"] or 0.0))

    panels = []
    for student, sets in students.items():
        rows = [row for steps in sets.values() for row in steps]
        seen = axis([0.0, *(float(row["classes"]) for row in rows)], floor=0.0)
        scale = axis([edge(row, sign) for row in rows for sign in (-1, 1)], count=5, floor=0.0)
        curves = []
        for name, steps in sets.items():
            classes = [row["classes"] for row in steps]
            mean = polyline(classes, [row["top1_mean"] for row in steps], seen, scale)
            lows, highs = ([edge(row, sign) for row in steps] for sign in (-1, 1))
            band = polyline(classes + classes[::-1], highs + lows[::-1], seen, scale) + "Z"
            curves.append(Curve(name, mean, band))
        title = f"Top-1 accuracy of {student} on the classes seen"
        panels.append(CurvePanel(title, f"classes seen by {student}", seen, scale, tuple(curves)))
    return panels


def _measured(summary: dict[str, Any]) -> list[float]:
    """Per class; a class without images has no value."""
    return [value for value in summary.get("per_class") or [] if value is not None]


def learning_curves(evaluations: Sequence[Evaluation]) -> list[CurvePanel]:
    """Test accuracy by epoch, a panel a student: mean of each set and range of its seeds."""
    panels = []
    for student in dict.fromkeys(e.student for e in evaluations):
        by_set: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for evaluation in (e for e in evaluations if e.student == student):
            for epoch, top1 in evaluation.curve:
                by_set[evaluation.set][epoch].append(top1)
        points = [(t, v) for curve in by_set.values() for t, vs in curve.items() for v in vs]
        if len({t for t, _ in points}) < 2:
            continue
        epochs = axis([0.0, *(t for t, _ in points)], count=6, floor=0.0)
        scale = axis([v for _, v in points], count=5, floor=0.0)
        curves = []
        for name in in_order(by_set):
            values = dict(sorted(by_set[name].items()))
            times = list(values)
            mean = polyline(times, [fmean(vs) for vs in values.values()], epochs, scale)
            highs, lows = ([edge(vs) for vs in values.values()] for edge in (max, min))
            band = polyline(times + times[::-1], highs + lows[::-1], epochs, scale) + "Z"
            curves.append(Curve(name, mean, band))
        title = f"Top-1 accuracy of {student} by epoch"
        panels.append(CurvePanel(title, f"epoch of {student}", epochs, scale, tuple(curves)))
    return panels


def loss_panels(metrics: Sequence[dict[str, Any]], schedule: dict[str, Any]) -> list[LossPanel]:
    """One panel for each loss that the synthesis logged, means over the class batches."""
    total, length = schedule.get("iterations"), schedule.get("round_iterations")
    rows: dict[tuple, dict[str, Any]] = {}
    for row in metrics:
        if row.get("stage") == "synthesize" and "iteration" in row:
            # A run that was resumed logs some iterations twice; the later line counts.
            rows[row.get("class_batch", 0), row["iteration"]] = row
    if not rows or not total or not length:
        return []
    panels = []
    for name, label in LOSSES.items():
        series: dict[tuple[int, int], list[float]] = defaultdict(list)
        for (_, iteration), row in rows.items():
            if isinstance(row.get(name), int | float):
                series[iteration, row.get("round", 0)].append(float(row[name]))
        if len(series) > 1:
            panels.append(_loss_panel(label, dict(sorted(series.items())), total, length))
    return panels


def paces(schedule: dict[str, Any]) -> list[Pace]:
    """Measured seconds per iteration of every round, beside the slots that were active."""
    seconds = schedule.get("seconds_per_iteration_by_round") or []
    active = schedule.get("active_per_round") or []
    if not seconds or len(seconds) != len(active) or not min(seconds) > 0:
        return []
    slowest = max(seconds)
    return [
        Pace(index, n, s, round(100 * s / slowest, 2))
        for index, (n, s) in enumerate(zip(active, seconds, strict=True))
    ]


def _loss_panel(
    name: str, series: dict[tuple[int, int], list[float]], total: int, length: int
) -> LossPanel:
    """The panel of a series of `(iteration, round) -> losses of the class batches`."""
    points = list(series)
    kept = [points[i] for i in thin(len(points), CURVE_POINTS)]
    mean = {point: fmean(series[point]) for point in kept}
    values = axis([edge(series[point]) for point in kept for edge in (min, max)], count=4)
    time = iteration_axis(total, length)
    segments = []
    for index in sorted({round_index for _, round_index in kept}):
        own = [point for point in kept if point[1] == index]
        times = [t for t, _ in own]
        path = polyline(times, [mean[point] for point in own], time, values)
        band = ""
        if any(len(series[point]) > 1 for point in own):
            highs, lows = ([edge(series[point]) for point in own] for edge in (max, min))
            band = polyline(times + times[::-1], highs + lows[::-1], time, values) + "Z"
        sparse = own if len(kept) <= SPARSE else []
        dots = tuple((time.at(point[0]), 100 - values.at(mean[point])) for point in sparse)
        segments.append(Segment(index, path, band, dots))
    thread = polyline([t for t, _ in kept], list(mean.values()), time, values)
    return LossPanel(name, time, values, tuple(segments), thread, mean[kept[0]], mean[kept[-1]])


def padded_axis(
    values: Sequence[float], floor: float | None = None, ceiling: float | None = None
) -> Axis:
    """An axis whose outermost values keep clear of its ends."""
    low, high = min(values), max(values)
    margin = max((high - low) * 0.08, 0.005 * max(abs(high), 1e-9))
    low = low - margin if floor is None else max(low - margin, floor)
    high = high + margin if ceiling is None else min(high + margin, ceiling)
    if not math.isfinite(low + high):
        low, high = 0.0, 1.0
    return axis([low, high], count=6, floor=floor)
