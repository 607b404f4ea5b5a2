"""sweep.json: what the runs of a sweep came to, in one stable schema, and its other forms.

The schema (version 1); accuracies in percent, null where something was not measured:

    schema, schema_version, name, title
    points  [{name, number, config, state: done | not done, method, method_changes: [option=value],
            data: {name, source, classes, image_size}, ipc, teacher: {arch, top1}, cosine,
            image_iterations, seconds, report,
            rows: [{student, top1_mean, top1_std, best_mean, best_std, n, seeds: {seed: {top1,
            best}}, hard_labels: {top1_mean, top1_std, n}, paper: {top1, source}, difference,
            continual: [{step, classes, top1_mean, top1_std, n}]}]}]
    claims  [{better, worse, measure: top1 | cosine, student, source, difference, low, high,
            verdict: holds | does not hold | not shown | unknown}]

`seconds` are of the synthesis, `report` is a path relative to sweep.json, `difference` is ours less
the paper's. Everything is of the distilled set. Intervals are at 95 %: Welch's over seeds for
top-1, of pairs over classes for the cosine.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

from delt_jax.data.decoding import decode
from delt_jax.export.manifest import ImageRecord, read_file
from delt_jax.models.students import student_arch
from delt_jax.report.axes import thin
from delt_jax.report.gallery import data_uri
from delt_jax.report.orderings import judge
from delt_jax.report.record import Record, read_record
from delt_jax.report.sweep_page import Thumbnail, render
from delt_jax.report.sweep_table import COLUMNS, cells, markdown, table_rows
from delt_jax.runtime.workdir import WorkDir
from delt_jax.sweep.planning import Step
from delt_jax.sweep.points import Claim, Sweep

SCHEMA = "delt_jax/sweep"
SCHEMA_VERSION = 1
STRIP_CLASSES, STRIP_SLOTS = 5, 2  # of each point's images, shown beside the other points'
STRIP_SIDE = 96  # px at most


def collect(sweep: Sweep, steps: Sequence[Step], folder: pathlib.Path) -> dict[str, Any]:
    """Writes sweep.json, sweep.csv, table.md and report.html of the points that are done.

    Args:
      sweep: the points and the claims about them.
      steps: the same points, planned.
      folder: where the four go.

    Returns:
      What sweep.json holds.

    Raises:
      InputError: where a result is damaged.
    """
    records = {step.point.name: read_record(step.workdir) for step in steps if step.is_done}
    points = [_point(step, step.point.name in records) for step in steps]
    by_name = {point["name"]: point for point in points}
    collected = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": sweep.name,
        "title": sweep.title,
        "points": points,
        "claims": [_judged(claim, by_name, records) for claim in sweep.claims],
    }
    strips = {
        step.point.name: _strip(step.workdir, records[step.point.name].images)
        for step in steps
        if step.point.name in records
    }
    home = WorkDir(folder)
    home.write_json(folder / "sweep.json", collected)
    home.write_csv(folder / "sweep.csv", COLUMNS, [cells(row) for row in table_rows(collected)])
    home.write_text(folder / "table.md", markdown(collected))
    home.write_text(folder / "report.html", render(collected, strips))
    return collected


def _point(step: Step, is_done: bool) -> dict[str, Any]:
    """A point of sweep.json."""
    results = step.workdir.read_json(step.workdir.results_json) if is_done else {}
    cost = results.get("cost") or {}
    return {
        "name": step.point.name,
        "number": step.number,
        "config": step.point.config,
        "state": "done" if is_done else "not done",
        "method": results.get("method"),
        "method_changes": results.get("method_changes") or [],
        "data": results.get("data"),
        "ipc": results.get("ipc"),
        "teacher": results.get("teacher") or {"arch": step.config.teacher.arch, "top1": None},
        "cosine": (results.get("diversity") or {}).get("distilled"),
        "image_iterations": cost.get("image_iterations"),
        "seconds": cost.get("seconds"),
        "report": f"{step.point.name}/{step.workdir.report_html.name}" if is_done else None,
        "rows": _rows(step, results),
    }


def _rows(step: Step, results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each student; of a point that is not done, for those of the paper."""
    arch = step.config.teacher.arch
    paper = {student_arch(name, arch): p for name, p in step.point.paper.items()}
    rows = []
    for student in results.get("students") or paper or [arch]:
        ours = (results.get("students") or {}).get(student, {}).get("distilled", {})
        hard = (results.get("hard_labels") or {}).get(student, {}).get("distilled")
        published = paper.get(student)
        mean = ours.get("top1_mean")
        rows.append(
            {"student": student}
            | {name: ours.get(name) for name in ("top1_mean", "top1_std", "best_mean", "best_std")}
            | {"n": ours.get("n", 0), "seeds": ours.get("seeds", {})}
            | {
                "hard_labels": hard and {n: hard.get(n) for n in ("top1_mean", "top1_std", "n")},
                "paper": published and {"top1": published.top1, "source": published.source},
                "difference": None if published is None or mean is None else mean - published.top1,
                "continual": (results.get("continual") or {}).get(student, {}).get("distilled", []),
            }
        )
    return rows


def _judged(
    claim: Claim, points: dict[str, dict[str, Any]], records: dict[str, Record]
) -> dict[str, Any]:
    """A claim with what the measurements say of it."""
    student = claim.student
    names, is_cosine = (claim.better, claim.worse), claim.measure == "cosine"
    samples = []
    if is_cosine:
        of_classes = [_cosines(records[name]) if name in records else [] for name in names]
        pairs = [pair for pair in zip(*of_classes) if None not in pair]
        samples = [list(values) for values in zip(*pairs)] or [[], []]
    for name in () if is_cosine else names:
        rows = points[name]["rows"]
        student = student_arch(student, points[name]["teacher"]["arch"])
        row = next((row for row in rows if row["student"] == student), None)
        samples.append([seed["top1"] for seed in row["seeds"].values()] if row else [])
    return {
        "better": claim.better,
        "worse": claim.worse,
        "measure": claim.measure,
        "student": None if is_cosine else student,
        "source": claim.source,
    } | judge(*samples, higher_is_better=not is_cosine, paired=is_cosine)


def _cosines(record: Record) -> list[float | None]:
    """Of the distilled set, by class; None for a class without images."""
    return record.diversity.get("distilled", {}).get("per_class") or []


def _strip(workdir: WorkDir, images: Sequence[ImageRecord]) -> tuple[Thumbnail, ...]:
    """A few images: classes and slots evenly spread, the same for points of the same size."""
    classes = sorted({image.class_index for image in images})
    slots = sorted({image.slot for image in images})
    shown = {classes[i] for i in thin(len(classes), STRIP_CLASSES)}
    ranks = {slots[i] for i in thin(len(slots), STRIP_SLOTS)}
    chosen = [image for image in images if image.class_index in shown and image.slot in ranks]
    thumbnails = []
    for image in sorted(chosen, key=lambda image: (image.class_index, image.slot)):
        pixels = decode(read_file(workdir.distilled, image), image.file)
        uri = data_uri(Image.fromarray(pixels), STRIP_SIDE)
        side = max(pixels.shape[:2])
        thumbnails.append(Thumbnail(image.class_name, image.slot, uri, side))
    return tuple(thumbnails)
