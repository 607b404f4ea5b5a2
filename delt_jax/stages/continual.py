"""continual: classes arrive step by step, and a fresh student learns all that were seen so far.

The memory is the distilled images of the classes seen (GDumb's way: Prabhu, Torr, Dokania, ECCV
2020), or as many real ones for comparison. Students are trained as `evaluate` does it, with the
head of all classes and the teacher's soft labels from the first step on.

NOTE(parity): the order of the classes, the memory and the test are those of VILA-Lab/SRe2L's
class-incremental Tiny-ImageNet. Its students differ (SGD, 100 epochs, views of their own), and its
teacher runs in training mode.
"""

import dataclasses
import functools
import itertools
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int64

from delt_jax.data.selection import Subset
from delt_jax.errors import InputError
from delt_jax.models.network import load_network
from delt_jax.runtime import hosts
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import Accuracy, CroppedImages, measure_accuracy
from delt_jax.stages.evaluate import check_sets, student_names
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.opening import describe, open_split
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student import StudentTrainer, as_json
from delt_jax.stages.training_sets import TrainingSet, open_sets

SCHEMA_VERSION = 1
ARGMAX = ("all", "seen")  # classes that a test image may be taken for


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
    steps = options.steps
    if steps < 1 or num_classes % steps:
        raise InputError(
            f"continual.steps {steps}: expected a number from 1 on that divides the {num_classes} "
            "classes"
        )
    if not 0 <= options.order_seed < 2**32:
        raise InputError(f"continual.order_seed {options.order_seed}: expected 0 to 2^32 - 1")
    if options.argmax not in ARGMAX:
        raise InputError(
            f"continual.argmax {options.argmax!r}: expected one of {', '.join(ARGMAX)}"
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
    teacher, spec = load_network(workdir.teacher), describe(config)
    check(config.continual, spec.num_classes)
    students = student_names(options.students, teacher)
    check_sets(options.sets, options.seeds)
    sets = open_sets(config, workdir, spec)
    # The accuracy after the last epoch is what counts.
    protocols = {
        name: dataclasses.replace(read_protocol(config, name, spec, teacher), eval_every=0)
        for name in students
    }
    seen = class_steps(spec.num_classes, config.continual.steps, config.continual.order_seed)
    test_source = open_split(config, spec, "test")

    @functools.cache
    def test_images(step: int) -> CroppedImages:
        return CroppedImages(
            Subset(test_source, np.flatnonzero(np.isin(test_source.labels, seen[step]))),
            spec.image_size,
            strict=bool(config.data.strict),
            workers=config.data.workers,
        )

    made_from = {
        "schema_version": SCHEMA_VERSION,
        "argmax": config.continual.argmax,
        "teacher": workdir.read_json(workdir.teacher / "card.json")["sha256"],
        "data": spec.name,
    }
    asked: Any = itertools.product(students, sets, options.seeds, range(len(seen)))
    jobs = [_Job(*job) for job in asked]
    crew = hosts.current()
    own = crew.dealt(jobs)
    with Progress(options.epochs * len(own), "continual", "epochs") as bar:
        trainer = None
        for job in own:
            if trainer is None or trainer.student != job.student:
                protocol = protocols[job.student]
                kind = StudentTrainer if config.continual.argmax == "all" else _AmongSeen
                trainer = kind(job.student, teacher, protocol, spec.image_size)
            memory = _of_classes(sets[job.set](job.seed), seen[job.step])
            _evaluate(trainer, job, memory, test_images(job.step), made_from, workdir, bar)
            crew.check()
    crew.wait("continual students")
    if crew.is_first and own:
        last = max(job.step for job in own)
        test_images(last).record_unreadable(workdir, "continual, test images")
    return ContinualResult(tuple(_read(workdir, job) for job in jobs))


class _AmongSeen(StudentTrainer):
    """Tests a student among the classes that there are test images of: others are no answer."""

    def test(self, variables: dict, test: CroppedImages) -> Accuracy:
        """Accuracy of a student on the test images of the classes seen."""
        seen = np.isin(np.arange(len(test.class_names)), test.labels)

        def logits_of(images):
            return jnp.where(seen, self._logits(variables, images, self._statistics), -jnp.inf)

        return measure_accuracy(logits_of, test)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A student to train: its architecture, its set, its seed and the step, from 0."""

    student: str
    set: str
    seed: int
    step: int

    def path(self, workdir: WorkDir) -> pathlib.Path:
        """Where its result is."""
        name = f"{self.set}-{self.student}-{self.seed}-step{self.step + 1}.json"
        return workdir.continual / name


def _of_classes(images: TrainingSet, classes: Int64[np.ndarray, " c"]) -> TrainingSet:
    kept = np.isin(images.labels, classes)
    return TrainingSet(images.images[kept], images.labels[kept])


def _evaluate(
    trainer: StudentTrainer,
    job: _Job,
    memory: TrainingSet,
    test: CroppedImages,
    made_from: Mapping[str, Any],
    workdir: WorkDir,
    bar: Progress,
) -> None:
    """Trains and tests one student, unless its file is there and was made from the same inputs."""
    path, protocol = job.path(workdir), trainer.protocol
    identity = fingerprint(
        {
            **made_from,
            "student": job.student,
            "seed": job.seed,
            "protocol": dataclasses.asdict(protocol),
        },
        *(memory.images, memory.labels, test.labels),
    )
    if path.exists() and workdir.read_json(path).get("fingerprint") == identity:
        bar.advance(protocol.epochs)
        return
    done = 0

    def advance(epoch: int, loss: float, top1: float) -> None:
        nonlocal done  # epochs from before an interruption count as done
        bar.advance(epoch + 1 - done)
        done = epoch + 1

    checkpoints = workdir.continual / f".{path.stem}-{identity[:12]}"
    trained = trainer.train(memory.images, job.seed, test, checkpoints, advance)
    classes = np.unique(memory.labels)
    found = {
        "set": job.set,
        "student": job.student,
        "seed": job.seed,
        "step": job.step + 1,
        "classes": len(classes),
        "top1": trained.curve.tested()[-1][1],
    }
    MetricsLog(workdir.metrics_jsonl).write("continual", **found)
    record = {
        "schema_version": SCHEMA_VERSION,
        **found,
        "seen": classes.tolist(),
        "per_class": as_json(trained.per_class),
        "class_names": test.class_names,
        "images": len(memory.images),
        "seconds": round(float(trained.curve.seconds[-1]), 3),
        "protocol": dataclasses.asdict(protocol),
        "fingerprint": identity,
    }
    workdir.write_json(path, record)
    for folder in workdir.continual.glob(f".{path.stem}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _read(workdir: WorkDir, job: _Job) -> StepRun:
    record = workdir.read_json(job.path(workdir))
    return StepRun(**{field.name: record[field.name] for field in dataclasses.fields(StepRun)})
