"""Layouts of a sweep's figures: top-1 and cosine by point, top-1 over the cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from delt_jax.report.axes import Axis, axis
from delt_jax.report.charts import Dot, DotGroup, DotPlot, padded_axis, top1_dot
from delt_jax.report.sweep_table import table_rows

COST_HEIGHT = 260  # px of the figure of top-1 over image-iterations
LABEL_GAP = 15  # px between the labels of two points


@dataclasses.dataclass(frozen=True)
class CostMark:
    """A point in the figure of top-1 over the cost; `x` in percent, the rest in px from the top."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    label_y: float


@dataclasses.dataclass(frozen=True)
class CostPlot:
    """Top-1 of one student on one data set, over image-iterations."""

    title: str
    cost: Axis
    values: Axis
    marks: tuple[CostMark, ...]


def top1_plot(sweep: dict[str, Any]) -> DotPlot | None:
    """Top-1 of every point, a group a student, with the paper's number on its row."""
    measured = [(point, row) for point, row in table_rows(sweep) if row["n"]]
    values = []
    for _, row in measured:
        std = row["top1_std"] or 0.0
        values += [row["top1_mean"] - std, row["top1_mean"] + std]
        values += [seed["top1"] for seed in row["seeds"].values()]
        values += [row["paper"]["top1"]] if row["paper"] else []
    if not values:
        return None
    scale = padded_axis(values, floor=0.0, ceiling=100.0)
    groups: dict[str, list[Dot]] = {}
    for point, row in measured:
        paper = row["paper"]["top1"] if row["paper"] else None
        dot = top1_dot(point["name"], row, scale, paper)
        groups.setdefault(row["student"], []).append(dot)
    return DotPlot(scale, tuple(DotGroup(n, tuple(dots)) for n, dots in groups.items()), None)


def cosine_plot(sweep: dict[str, Any]) -> DotPlot | None:
    """Cosine of every point's distilled images."""
    points = [point for point in sweep["points"] if point["cosine"] is not None]
    if not points:
        return None
    scale = padded_axis([point["cosine"] for point in points], ceiling=1.0)
    dots = []
    for point in points:
        value = point["cosine"]
        dots.append(Dot(point["name"], scale.at(value), None, None, (), value, None, 0))
    return DotPlot(scale, (DotGroup("", tuple(dots)),), None)


def cost_plots(sweep: dict[str, Any]) -> list[CostPlot]:
    """Top-1 over image-iterations, a figure for each student on each data set.

    There is none where fewer than two points were measured, or none has a synthesis.
    """
    groups: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for point, row in table_rows(sweep):
        if row["n"] and point["image_iterations"] is not None:
            groups.setdefault((point["data"]["name"], row["student"]), []).append((point, row))
    return [
        _cost_plot(data, student, pairs)
        for (data, student), pairs in groups.items()
        if len(pairs) > 1 and any(point["image_iterations"] for point, _ in pairs)
    ]


def _cost_plot(
    data: str, student: str, measured: Sequence[tuple[dict[str, Any], dict[str, Any]]]
) -> CostPlot:
    costs = [point["image_iterations"] for point, _ in measured]
    edges = [
        row["top1_mean"] + sign * (row["top1_std"] or 0.0)
        for _, row in measured
        for sign in (-1, 1)
    ]
    cost = axis([0.0, *costs], count=5, floor=0.0)
    values = padded_axis(edges, floor=0.0, ceiling=100.0)

    def at(value: float) -> float:
        return round(COST_HEIGHT * (1 - values.at(value) / 100), 2)

    heights = [at(row["top1_mean"]) for _, row in measured]
    labels = spread_labels([cost.at(value) for value in costs], heights)
    marks = []
    for (point, row), y, label_y in zip(measured, heights, labels, strict=True):
        mean, std = row["top1_mean"], row["top1_std"]
        low, high = (None, None) if std is None else (at(mean - std), at(mean + std))
        x = cost.at(point["image_iterations"])
        marks.append(CostMark(point["name"], x, y, low, high, label_y))
    return CostPlot(f"{student} on {data}", cost, values, tuple(marks))


def spread_labels(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """Heights of labels, those of marks that are near one another along x kept apart.

    Args:
      xs: of the marks, in percent.
      ys: of the marks, in px.

    Returns:
      For every mark where its label goes, in px; at least `LABEL_GAP` below that of any mark above
      it whose x lies within 30 %.
    """
    placed: dict[int, float] = {}
    for index in sorted(range(len(ys)), key=lambda i: ys[i]):
        y = ys[index]
        for other in sorted(placed, key=lambda i: placed[i]):
            if abs(xs[other] - xs[index]) < 30 and abs(placed[other] - y) < LABEL_GAP:
                y = placed[other] + LABEL_GAP
        placed[index] = y
    return [placed[index] for index in range(len(ys))]
