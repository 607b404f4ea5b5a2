"""continual: classes arrive step by step, and a fresh student learns all that were seen so far.

The memory is the distilled images of the classes seen (GDumb's way: Prabhu, Torr, Dokania, ECCV
2020), or as many real ones for comparison. Students are trained as `evaluate` does it, with the
head of all classes and the teacher's soft labels from the first step on.

NOTE(parity): the order of the classes, the memory and the test are those of VILA-Lab/SRe2L's
class-incremental Tiny-ImageNet. Its students differ (SGD, 100 epochs, views of their own), and its
teacher runs in training mode.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from jaxtyping import Int64

from delt_jax.errors import InputError
from delt_jax.models.network import load_network
from delt_jax.runtime import hosts
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import options as table
from delt_jax.stages.cropped_images import Scope
from delt_jax.stages.evaluate import student_names
from delt_jax.stages.opening import describe
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student_jobs import Job, StudentJobs, read_run


@dataclasses.dataclass(frozen=True)
class StepRun:
    """One student after one step (from 1), tested on the classes seen; accuracy in percent."""

    set: str
    student: str
    seed: int
    step: int
    classes: int
    top1: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class ContinualResult:
    """Every student, in the order of the config."""

    runs: tuple[StepRun, ...]


def class_steps(num_classes: int, steps: int, order_seed: int) -> list[Int64[np.ndarray, " c"]]:
    """The classes seen after each step, ascending: those of step i and of all before it.

    The order of arrival is NumPy's legacy generator's (Mersenne Twister), as of `np.random.seed(s);
    np.random.permutation(k)` in the public protocol.

    Args:
      num_classes: k.
      steps: parts of equal size that the order is cut into.
      order_seed: s.
    """
    order = np.random.RandomState(order_seed).permutation(num_classes)
    size = num_classes // steps
    return [np.sort(order[: size * (step + 1)]) for step in range(steps)]


def check(options: Any, num_classes: int) -> None:
    """Raises `InputError` naming the first option of `config.continual` that is out of range."""
    table.check(options, "continual")
    steps = options.steps
    if steps < 1 or num_classes % steps:
        raise InputError(
            f"continual.steps: got {steps}, expected a number from 1 on that divides the "
            f"{num_classes} classes"
        )


def run(config: Any, workdir: WorkDir) -> ContinualResult:
    """Trains and tests a student after every step, for each set, architecture and seed.

    What has a result from the same inputs is kept.

    Args:
      config: an `ml_collections.ConfigDict`; reads `ipc`, `data`, `distilled.{format,quality}`,
        `evaluate.*` and `continual.*`.
      workdir: reads the teacher, the distilled images, the selection, the names of images that
        cannot be read; writes `continual/<set>-<student>-<seed>-step<n>.json`, metrics and such
        names of test images.

    Raises:
      InputError: before anything is trained, where an option, the data or an earlier stage's result
        is wrong; later, where a student diverges.
    """
    options = config.evaluate
    table.check(options, "evaluate")
    teacher, spec = load_network(workdir.teacher), describe(config)
    check(config.continual, spec.num_classes)
    students = student_names(options.students, teacher)
    work = StudentJobs.open("continual", workdir.continual, config, workdir, teacher, spec)
    # The accuracy after the last epoch is what counts.
    protocols = {
        name: dataclasses.replace(read_protocol(config, name, spec, teacher), eval_every=0)
        for name in students
    }
    seen = class_steps(spec.num_classes, config.continual.steps, config.continual.order_seed)
    scopes = [Scope(tuple(classes.tolist()), config.continual.argmax) for classes in seen]
    # A seed's steps follow one another: hosts, which get jobs in a row, share late and early ones.
    asked: Any = itertools.product(students, work.sets, options.seeds, enumerate(scopes, 1))
    jobs = [
        Job(
            *(name, protocols[name], chosen, seed, f"step{step}", scope),
            notes={"step": step, "classes": len(scope.classes)},
        )
        for name, chosen, seed, (step, scope) in asked
    ]
    runs = [read_run(StepRun, record) for record in work.run(jobs)]
    if hosts.current().is_first:
        work.test.record_unreadable(workdir, "continual, test images")
    return ContinualResult(tuple(runs))
