"""A sweep of the digits whose runs are written by hand."""

import json
import os

import numpy as np

from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.sweep.planning import plan
from delt_jax.sweep.points import Claim, Paper, Point, Sweep

SEEDS = ("3407", "4663", "2897")


def make_sweep(names=("delt", "early_only", "rded"), students=None):
    paper = {"delt": Paper(43.0, "table 1"), "rded": Paper(37.1, "table 1")}
    overrides = {"evaluate.students": students} if students else {}
    points = [
        Point(
            name,
            "configs/digits.py:smoke",
            overrides,
            {"teacher": paper[name]} if name in paper else {},
        )
        for name in names
    ]
    claims = [
        Claim(names[0], other, measure, "the paper")
        for other in names[1:]
        for measure in ("top1", "cosine")
    ]
    return Sweep("methods", "Methods on digits, IPC 4", tuple(points), tuple(claims))


def make_steps(folder, sweep=None):
    return plan(sweep or make_sweep(), folder)


def finish(
    step,
    top1=(35.0, 36.0, 37.0),
    cosine=0.93,
    iterations=255_000,
    hard=None,
    names="0123",
    more=(),
    continual=(),
):
    """Leaves what a run leaves, a few images among it; `more` students fare alike.

    `continual`: (classes seen, top-1) after each step.
    """
    workdir = step.workdir
    workdir.write_json(workdir.config_json, json.loads(json.dumps(step.config.to_dict())))
    os.utime(workdir.config_json, (1, 1))
    for stage in ("squeeze", "select", "report"):
        workdir.write_json(workdir.stages / f"{stage}.json", {"inputs": {}, "seconds": 1.0})
    arch = step.config.teacher.arch
    seeds = {s: {"top1": v, "best": v + 1} for s, v in zip(SEEDS, top1)}
    mean, std = float(np.mean(top1)), float(np.std(top1, ddof=1)) if len(top1) > 1 else None
    summary = {"top1_mean": mean, "top1_std": std, "best_mean": mean + 1, "best_std": std}
    summary |= {"n": len(top1), "seeds": seeds}
    results = {
        "method": step.point.name,
        "data": {"name": "digits"},
        "ipc": 4,
        "teacher": {"arch": arch, "top1": 91.73},
        "students": {student: {"distilled": summary} for student in (arch, *more)},
        "diversity": {"distilled": cosine},
        "cost": {"image_iterations": iterations, "seconds": 1234.5},
    }
    if hard is not None:
        results["hard_labels"] = {arch: {"distilled": {"top1_mean": hard, "top1_std": 0.5, "n": 3}}}
    if continual:
        rows = [
            {"step": step, "classes": classes, "top1_mean": mean, "top1_std": 0.5, "n": 3}
            for step, (classes, mean) in enumerate(continual, 1)
        ]
        results["continual"] = {arch: {"distilled": rows}}
    workdir.write_json(workdir.results_json, results)
    spread = 0.001 if cosine < 0.92 else 0.002  # so that pairs of classes differ, too
    per_class = [cosine + k * spread for k in (-2, -1, 1, 2)]
    workdir.write_json(
        workdir.evaluation / "diversity.json",
        {"distilled": {"mean": cosine, "per_class": per_class}},
    )
    records = [ImageRecord(k, names[k], slot) for k in range(4) for slot in range(3)]
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    write_manifest(workdir.distilled, write_images(workdir.distilled, images, records), {})
