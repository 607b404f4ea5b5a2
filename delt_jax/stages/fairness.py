"""fairness: DD-Ranking's scores of the distilled set (see `delt_jax.core.fairness`).

Students of the distilled and of random real images: with soft labels as `evaluate` trained them,
the same without augmentation, and, of the distilled images, with hard labels at several learning
rates. The rate is the one of the highest mean over seeds on the test set, where DD-Ranking, too,
chooses it. Accuracies are those of the last epoch.
"""

import dataclasses
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core.fairness import augmentation_robust_score, label_robust_score
from delt_jax.errors import InputError
from delt_jax.models.network import load_network
from delt_jax.models.students import student_arch
from delt_jax.report.intervals import deviation
from delt_jax.runtime import hosts
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import options as table
from delt_jax.stages.opening import describe
from delt_jax.stages.protocol import Protocol, read_protocol
from delt_jax.stages.student_jobs import Job, StudentJobs

SCHEMA_VERSION = 1
SETS = ("distilled", "random")


@dataclasses.dataclass(frozen=True)
class FairnessResult:
    """The scores in [0, 1], means and sample deviations (None for one seed) over seeds.

    Attributes:
      lrs_mean: label-robust score.
      lrs_std: its deviation.
      ars_mean: augmentation-robust score.
      ars_std: its deviation.
      ingredients: the student; the accuracies in percent that the scores are made of, those over
        seeds as lists in the order of `seeds`; the learning rate of hard labels.
    """

    lrs_mean: float
    lrs_std: float | None
    ars_mean: float
    ars_std: float | None
    ingredients: dict[str, Any]


def check(config: Any) -> None:
    """Raises `InputError` naming the first option that the stage cannot work with."""
    table.check(config.fairness, "fairness")
    options = config.evaluate
    for name in SETS:  # that `evaluate` trains what the scores compare with
        if name not in options.sets:
            raise InputError(f"evaluate.sets {tuple(options.sets)}: fairness needs {name!r} there")
    if "soft" not in options.labels:
        raise InputError(f"evaluate.labels {tuple(options.labels)}: fairness needs 'soft' there")
    if not options.augment:
        raise InputError("evaluate.augment False: expected True, fairness compares with it")
    arch = config.teacher.arch
    student = student_arch(options.students[0], arch)
    if student != arch and not config.fairness.full_data_top1:
        raise InputError(
            f"fairness.full_data_top1 0 with student {student} and teacher {arch}: expected the "
            f"top-1 in percent of a {student} trained on all real images"
        )


def run(config: Any, workdir: WorkDir) -> FairnessResult:
    """Trains the students that are missing, and scores the distilled set.

    Args:
      config: an `ml_collections.ConfigDict`; reads `ipc`, `data`, `distilled.{format,quality}`,
        `evaluate.*` (the first of its students) and `fairness.*`.
      workdir: reads the teacher, the distilled images and the students of `evaluate`; writes
        `fairness/<set>-<student>-<seed>-plain.json` (without augmentation),
        `fairness/distilled-<student>-<seed>-hard-<rate>.json`, `fairness/fairness.json` (the
        scores) and metrics.

    Raises:
      InputError: before anything is trained, where an option, the data or an earlier stage's result
        is wrong; later, where a student diverges.
    """
    options = config.evaluate
    check(config)
    teacher, spec = load_network(workdir.teacher), describe(config)
    student = student_arch(options.students[0], teacher.arch)
    full = config.fairness.full_data_top1 or teacher.top1
    if full is None:
        raise InputError(
            f"{workdir.teacher}: no top-1; expected fairness.full_data_top1 in percent"
        )
    soft = read_protocol(config, student, spec, teacher)
    evaluated = {
        name: [_evaluated(workdir, Job(student, soft, name, seed)) for seed in options.seeds]
        for name in SETS
    }
    plain = dataclasses.replace(soft, views=None)
    hard = read_protocol(config, student, spec, teacher, "hard")
    rates = tuple(dict.fromkeys(map(float, config.fairness.learning_rates)))
    kinds: list[tuple[str, str, Protocol]] = [(name, "plain", plain) for name in SETS]
    for rate in rates:
        protocol = dataclasses.replace(hard, learning_rate=rate)
        kinds.append(("distilled", f"hard-{rate:g}", protocol))
    work = StudentJobs.open("fairness", workdir.fairness, config, workdir, teacher, spec)
    records = work.run(
        [
            Job(student, protocol, name, seed, kind)
            for name, kind, protocol in kinds
            for seed in options.seeds
        ]
    )
    top1 = np.reshape([record["top1"] for record in records], (len(kinds), -1))
    by_rate = top1[2:]
    best = int(np.argmax(by_rate.mean(axis=1)))
    ingredients = {
        "student": student,
        "seeds": list(options.seeds),
        "full_data_hard": float(full),
        "distilled_soft": evaluated["distilled"],
        "random_soft": evaluated["random"],
        "distilled_plain": top1[0].tolist(),
        "random_plain": top1[1].tolist(),
        "distilled_hard": by_rate[best].tolist(),
        "hard_learning_rate": rates[best],
        "hard_by_learning_rate": {f"{r:g}": float(v.mean()) for r, v in zip(rates, by_rate)},
    }
    result = scores(ingredients)
    if hosts.current().is_first:
        record = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(result)}
        workdir.write_json(workdir.fairness_json, record)
    return result


def scores(ingredients: dict[str, Any]) -> FairnessResult:
    """The scores of accuracies in percent; see `FairnessResult.ingredients`."""

    def fraction(name: str) -> jax.Array:
        return jnp.asarray(ingredients[name]) / 100

    soft, random = fraction("distilled_soft"), fraction("random_soft")
    lrs = label_robust_score(fraction("full_data_hard"), fraction("distilled_hard"), soft, random)
    ars = augmentation_robust_score(
        soft, random, fraction("distilled_plain"), fraction("random_plain")
    )
    (lrs_mean, lrs_std), (ars_mean, ars_std) = map(_mean_and_deviation, (lrs, ars))
    return FairnessResult(lrs_mean, lrs_std, ars_mean, ars_std, ingredients)


def _mean_and_deviation(values: Any) -> tuple[float, float | None]:
    numbers = np.asarray(values, float).tolist()
    return statistics.fmean(numbers), deviation(numbers)


def _evaluated(workdir: WorkDir, job: Job) -> float:
    """Top-1 of a student that `evaluate` has trained."""
    return workdir.read_json(job.path(workdir.evaluation))["top1"]
