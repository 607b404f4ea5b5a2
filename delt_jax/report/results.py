"""results.json: the summary of a run in one stable schema, and what may be claimed from it.

The schema (version 1); accuracies in percent, null where something was not measured:

    schema, schema_version, method, method_changes: [option=value], seed
    deterministic  whether programs were compiled to give the same numbers in every run; see
                docs/reliability.md
    data        {name, source, classes, image_size}
    ipc         images per class
    teacher     {arch, top1}
    students    student -> set -> {top1_mean, top1_std, best_mean, best_std, n, epochs,
                seeds: {seed: {top1, best}}}, of students that learned the teacher's labels
    hard_labels the same of students that learned the classes; {} where there is none
    stored_labels the same of students that learned stored labels of the teacher's
    comparisons [{student, labels, set, against, difference, low, high, clear}]: difference of the
                means in points of students that learned one kind of labels, its 95 % confidence
                interval (Welch's t), and whether that excludes zero
    diversity   set -> intra-class cosine similarity to the centroid (lower is more diverse)
    metrics     set -> {centroid_cosine, pairwise_cosine, coverage, frechet_distance}; a set "real"
                is the training images that the last two compare the others with
    continual   student -> set -> [{step, classes, top1_mean, top1_std, n}]: classes seen, and the
                accuracy on them of students of their images; {} where there are none
    fairness    DD-Ranking's scores in [0, 1]: {lrs_mean, lrs_std, ars_mean, ars_std, ingredients};
                {} where they were not asked for
    cost        {image_iterations, promised, constant, saved_fraction, iterations, seconds,
                seconds_compile, seconds_saved_fraction, device}
    stages      name -> seconds of the latest run of the stage
    paths       name -> path relative to the work directory
    versions    {delt_jax, python, jax, jaxlib, flax, numpy}

A set is a name such as `distilled`, `selected` or `random`. Deviations are of a sample (n - 1).
"""

import importlib.metadata
import platform
import statistics
from collections.abc import Sequence
from typing import Any

import delt_jax
from delt_jax.models.students import student_archs
from delt_jax.report.intervals import deviation, welch_interval
from delt_jax.report.record import ContinualStep, Evaluation, Record, config_value
from delt_jax.runtime.workdir import WorkDir

SCHEMA = "delt_jax/results"
SCHEMA_VERSION = 1
SET_ORDER = ("distilled", "selected", "random")
KINDS = {"soft": "students", "hard": "hard_labels", "stored": "stored_labels"}  # labels -> key
REAL = "real"  # in diversity.json: the training images, of which there are more than of a set


def summarise(record: Record, workdir: WorkDir) -> dict[str, Any]:
    """Returns the content of results.json for `record`."""
    config = record.config
    kinds = {
        labels: _students([e for e in _in_config_order(record) if e.labels == labels])
        for labels in KINDS
    }
    classes = len({image.class_index for image in record.images})
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "method": config_value(config, "method", record.manifest.get("method")),
        "method_changes": config_value(
            config, "method_changes", record.manifest.get("method_changes", [])
        ),
        "seed": config_value(config, "seed"),
        "deterministic": bool(config_value(config, "deterministic", False)),
        "data": {
            "name": config_value(config, "data.name"),
            "source": config_value(config, "data.source"),
            "classes": classes,
            "image_size": record.teacher.get("image_size"),
        },
        "ipc": config_value(config, "ipc", max((i.slot for i in record.images), default=-1) + 1),
        "teacher": {"arch": record.teacher.get("arch"), "top1": record.teacher.get("top1")},
        **{KINDS[labels]: students for labels, students in kinds.items()},
        "comparisons": [
            row for labels, students in kinds.items() for row in _comparisons(labels, students)
        ],
        "diversity": {
            name: record.diversity[name]["mean"]
            for name in in_order(record.diversity)
            if name != REAL and record.diversity[name]["mean"] is not None
        },
        "metrics": {name: _metrics(record.diversity[name]) for name in in_order(record.diversity)},
        "continual": _continual(record),
        "fairness": {k: v for k, v in record.fairness.items() if k != "schema_version"},
        "cost": _cost(record.schedule),
        "stages": record.stage_seconds,
        "paths": _paths(workdir),
        "versions": _versions(),
    }


def in_order(names: Any) -> list[str]:
    """Set names: distilled, selected, random, then any other by name."""
    return sorted(names, key=lambda n: (SET_ORDER.index(n) if n in SET_ORDER else 99, n))


def _in_config_order(record: Record) -> list[Evaluation]:
    """Students and seeds in the order of the config, any other after them."""

    def position(names: Any, name: Any) -> tuple[int, Any]:
        return (names.index(name) if name in names else len(names), name)

    words = config_value(record.config, "evaluate.students", [])
    students = student_archs(words, record.teacher.get("arch", ""))
    seeds = list(config_value(record.config, "evaluate.seeds", []))
    return sorted(
        record.evaluations, key=lambda e: (position(students, e.student), position(seeds, e.seed))
    )


def _students(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    students: dict[str, Any] = {}
    for name in dict.fromkeys(e.student for e in evaluations):
        of_student = [e for e in evaluations if e.student == name]
        students[name] = {
            chosen: _set_summary([e for e in of_student if e.set == chosen])
            for chosen in in_order({e.set for e in of_student})
        }
    return students


def _set_summary(evaluations: list[Evaluation]) -> dict[str, Any]:
    top1 = [e.top1 for e in evaluations]
    best = [e.best for e in evaluations if e.best is not None]
    epochs = {e.epochs for e in evaluations}
    return {
        "top1_mean": statistics.fmean(top1),
        "top1_std": deviation(top1),
        "best_mean": statistics.fmean(best) if best else None,
        "best_std": deviation(best),
        "n": len(top1),
        "epochs": epochs.pop() if len(epochs) == 1 else None,
        "seeds": {str(e.seed): {"top1": e.top1, "best": e.best} for e in evaluations},
    }


def _comparisons(labels: str, students: dict[str, Any]) -> list[dict[str, Any]]:
    """Compares the distilled set with every other, for students of one kind of labels."""
    rows = []
    for student, sets in students.items():
        for name, other in sets.items():
            if name == "distilled" or "distilled" not in sets:
                continue
            ours = [seed["top1"] for seed in sets["distilled"]["seeds"].values()]
            theirs = [seed["top1"] for seed in other["seeds"].values()]
            low, high = welch_interval(ours, theirs)
            rows.append(
                {
                    "student": student,
                    "labels": labels,
                    "set": "distilled",
                    "against": name,
                    "difference": statistics.fmean(ours) - statistics.fmean(theirs),
                    "low": low,
                    "high": high,
                    "clear": low is not None and high is not None and (low > 0 or high < 0),
                }
            )
    return rows


def _continual(record: Record) -> dict[str, Any]:
    """Means and sample deviations over seeds, by student, set and step."""
    groups: dict[str, dict[str, dict[int, list[ContinualStep]]]] = {}
    for found in record.continual:
        steps = groups.setdefault(found.student, {}).setdefault(found.set, {})
        steps.setdefault(found.step, []).append(found)
    return {
        student: {
            name: [
                {
                    "step": step,
                    "classes": found[0].classes,
                    "top1_mean": statistics.fmean(one.top1 for one in found),
                    "top1_std": deviation([one.top1 for one in found]),
                    "n": len(found),
                }
                for step, found in sorted(sets[name].items())
            ]
            for name in in_order(sets)
        }
        for student, sets in groups.items()
    }


def _metrics(entry: dict[str, Any]) -> dict[str, float | None]:
    """What results.json says of one set's entry in diversity.json; older ones have less."""
    return {
        "centroid_cosine": entry["mean"],
        "pairwise_cosine": (entry.get("pairwise") or {}).get("mean"),
        "coverage": (entry.get("coverage") or {}).get("mean"),
        "frechet_distance": entry.get("frechet_distance"),
    }


def _cost(schedule: dict[str, Any]) -> dict[str, Any]:
    """Cost of the synthesis.

    `seconds_saved_fraction` compares the measured seconds of every round with running all rounds of
    all class batches at the pace of the fullest one, which is what constant iterations would do.
    """
    if not schedule:
        return {}
    promised, constant = schedule.get("image_iterations"), schedule.get("constant_image_iterations")
    paces = schedule.get("seconds_per_iteration_by_round") or []
    active = schedule.get("active_per_round") or []
    saved = None
    if len(paces) == len(active) > 0 and min(paces) > 0:
        fullest = paces[active.index(max(active))]
        everyone = [max(schedule.get("class_batches") or 1, 1)] * len(paces)
        batches = schedule.get("class_batches_per_round") or everyone
        taken = sum(pace * count for pace, count in zip(paces, batches, strict=True))
        saved = 1 - taken / (fullest * sum(everyone))
    return {
        "image_iterations": schedule.get("image_iterations_done"),
        "promised": promised,
        "constant": constant,
        "saved_fraction": 1 - promised / constant if promised is not None and constant else None,
        "iterations": schedule.get("iterations"),
        "seconds": schedule.get("seconds"),
        "seconds_compile": schedule.get("seconds_compile"),
        "seconds_saved_fraction": saved,
        "device": schedule.get("device"),
    }


def _paths(workdir: WorkDir) -> dict[str, str]:
    places = {
        "config": workdir.config_json,
        "teacher": workdir.teacher,
        "ranking": workdir.ranking_csv,
        "selection": workdir.selection_csv,
        "distilled": workdir.distilled,
        "labels": workdir.labels,
        "evaluation": workdir.evaluation,
        "continual": workdir.continual,
        "fairness": workdir.fairness_json,
        "metrics": workdir.metrics_jsonl,
        "report": workdir.report_html,
        "results": workdir.results_json,
    }
    made_here = ("report", "results")
    return {
        name: path.relative_to(workdir.path).as_posix()
        for name, path in places.items()
        if name in made_here or path.exists()
    }


def _versions() -> dict[str, str]:
    versions = {"delt_jax": delt_jax.__version__, "python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
