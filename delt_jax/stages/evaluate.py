"""evaluate: students trained on the distilled images, and on real ones for comparison, tested."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.models.network import Network, load_network
from delt_jax.models.students import student_archs
from delt_jax.report.intervals import deviation
from delt_jax.runtime import hosts
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import options as table
from delt_jax.stages.diversity import measure_diversity
from delt_jax.stages.labelling import check_labels, plan_labels
from delt_jax.stages.opening import describe
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student_jobs import Job, StudentJobs, read_run


@dataclasses.dataclass(frozen=True)
class StudentRun:
    """One student; accuracies in percent."""

    set: str
    student: str
    seed: int
    top1: float
    best_top1: float
    best_epoch: int
    seconds: float
    labels: str = "soft"


@dataclasses.dataclass(frozen=True)
class Summary:
    """Students of several seeds: means, and sample deviations (n - 1; None for one seed)."""

    set: str
    student: str
    n: int
    top1_mean: float
    top1_std: float | None
    best_mean: float
    best_std: float | None
    labels: str = "soft"


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluateResult:
    """What came out.

    Attributes:
      runs: every student, in the order of the config.
      summaries: over seeds, per student, kind of labels and set.
      diversity: measures of each set, and of real images, in the teacher's features; see
        `delt_jax.stages.diversity.measure_diversity`.
    """

    runs: tuple[StudentRun, ...]
    summaries: tuple[Summary, ...]
    diversity: dict[str, dict[str, Any]]


def run(config: Any, workdir: WorkDir) -> EvaluateResult:
    """Trains and tests a student for each set, architecture, labels and seed without a result yet.

    Args:
      config: an `ml_collections.ConfigDict`; reads `seed`, `ipc`, `data`,
        `distilled.{format,quality}` and `evaluate.*`.
      workdir: reads the teacher, the distilled images, their stored labels, the selection, the
        names of images that cannot be read; writes `evaluation/<set>-<student>-<seed>.json`
        (`...-<seed>-hard.json` for hard labels, `...-<seed>-stored.json` for stored ones, which
        only the distilled images have), `evaluation/diversity.json`, metrics and such names of
        test images.

    Raises:
      InputError: before anything is trained, where an option, the data or an earlier stage's result
        is wrong; later, where a student diverges.
    """
    options = config.evaluate
    table.check(options, "evaluate")
    teacher = load_network(workdir.teacher)
    spec = describe(config)
    students = student_names(options.students, teacher)
    work = StudentJobs.open("evaluate", workdir.evaluation, config, workdir, teacher, spec)
    kinds = tuple(dict.fromkeys(options.labels))
    protocols = {
        (name, labels): read_protocol(config, name, spec, teacher, labels)
        for name in students
        for labels in kinds
    }
    asked: Any = list(itertools.product(work.sets, options.seeds))
    jobs = [
        Job(name, protocols[name, labels], chosen, seed, "" if labels == "soft" else labels)
        for name, labels in protocols
        for chosen, seed in asked
        if labels != "stored" or chosen == "distilled"
    ]
    crew = hosts.current()
    stored = None
    if "stored" in kinds:
        if crew.is_first and len(work.sets) > 1:
            print("evaluate: students learn stored labels from the distilled images alone")
        stored, _ = plan_labels(config, workdir, spec, teacher, work.sets["distilled"](0).images)
        check_labels(stored)
    if crew.is_first:
        measure_diversity(config, workdir, spec, work.sets, teacher)
    runs = [read_run(StudentRun, record) for record in work.run(jobs, stored)]
    if crew.is_first:
        work.test.record_unreadable(workdir, "evaluate, test images")
    diversity = _read_diversity(workdir)
    return EvaluateResult(tuple(runs), summarise(runs), diversity)


def _read_diversity(workdir: WorkDir) -> dict[str, dict[str, Any]]:
    """Reads diversity.json, which the first host wrote; others may see it later."""
    path, crew = workdir.evaluation / "diversity.json", hosts.current()

    def read() -> dict[str, dict[str, Any]]:
        return workdir.read_json(path) if path.exists() else {}

    def identities(found: dict[str, dict[str, Any]]) -> dict[str, str]:
        return {name: entry["fingerprint"] for name, entry in found.items()}

    written = crew.agree("diversity", identities(read()))
    return hosts.seen(read, lambda found: identities(found) == written, f"{path}, of this run")


def student_names(names: Any, teacher: Network) -> tuple[str, ...]:
    """Architectures by name, the teacher's for "" and "teacher"; each is built once to check it."""
    students = student_archs(names, teacher.arch)
    if not students:
        raise InputError("evaluate.students is empty; expected at least one architecture")
    for name in students:
        registry.create(name, teacher.num_classes, teacher.image_size)
    return students


def summarise(runs: Any) -> tuple[Summary, ...]:
    """Means and sample deviations over seeds, in the order of the runs."""
    groups: dict[tuple[str, str, str], list[StudentRun]] = {}
    for one in runs:
        groups.setdefault((one.student, one.labels, one.set), []).append(one)
    return tuple(
        Summary(
            set=name,
            student=student,
            n=len(group),
            top1_mean=float(np.mean([run.top1 for run in group])),
            top1_std=deviation([run.top1 for run in group]),
            best_mean=float(np.mean([run.best_top1 for run in group])),
            best_std=deviation([run.best_top1 for run in group]),
            labels=labels,
        )
        for (student, labels, name), group in groups.items()
    )
