"""evaluate: students trained on the distilled images, and on real ones for comparison, tested."""

import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from delt_jax.core import data_parallel, programs
from delt_jax.core.augment.views import Statistics
from delt_jax.core.diversity import intra_class_cosine
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.models.network import Network, load_network
from delt_jax.runtime import hosts
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import CroppedImages, apply_in_batches
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.opening import describe, open_split
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student import StudentTrainer, Trained, as_json
from delt_jax.stages.training_sets import SETS, TrainingSet, open_sets

SCHEMA_VERSION = 1


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
      diversity: intra-class cosine of each set in the teacher's features, its mean over classes
        (`mean`) and `per_class`; over seeds where a set is drawn for each.
    """

    runs: tuple[StudentRun, ...]
    summaries: tuple[Summary, ...]
    diversity: dict[str, dict[str, Any]]


def run(config: Any, workdir: WorkDir) -> EvaluateResult:
    """Trains and tests a student for each set, architecture, labels and seed without a result yet.

    Args:
      config: an `ml_collections.ConfigDict`; reads `seed`, `ipc`, `data`,
        `distilled.{format,quality}` and `evaluate.*`.
      workdir: reads the teacher, the distilled images, the selection, the names of images that
        cannot be read; writes `evaluation/<set>-<student>-<seed>.json`
        (`...-<seed>-hard.json` for hard labels),
        `evaluation/diversity.json`, metrics and such names of test images.

    Raises:
      InputError: before anything is trained, where an option, the data or an earlier stage's result
        is wrong; later, where a student diverges.
    """
    options = config.evaluate
    teacher = load_network(workdir.teacher)
    spec = describe(config)
    students = _students(options.students, teacher)
    _check_sets(options.sets, options.seeds)
    sets = open_sets(config, workdir, spec)
    test = CroppedImages(
        open_split(config, spec, "test"),
        spec.image_size,
        strict=bool(config.data.strict),
        workers=config.data.workers,
    )
    if teacher.num_classes != len(test.class_names):
        raise InputError(
            f"teacher {teacher.arch} has {teacher.num_classes} classes, the test data "
            f"{len(test.class_names)}; expected as many"
        )
    kinds = tuple(dict.fromkeys(options.labels))
    protocols = {
        (name, labels): read_protocol(config, name, spec, teacher, labels)
        for name in students
        for labels in kinds
    }
    teacher_hash = workdir.read_json(workdir.teacher / "card.json")["sha256"]

    crew = hosts.current()
    if crew.is_first:
        diversity = _measure_diversity(sets, options.seeds, teacher)
        workdir.write_json(workdir.evaluation / "diversity.json", diversity)
    asked: Any = itertools.product(students, kinds, sets, options.seeds)
    jobs = [_Job(*job) for job in asked]
    # Hosts train students of their own, on all of their devices; so none waits for the others.
    own = crew.dealt(jobs)
    with Progress(options.epochs * len(own), "evaluating", "epochs") as bar:
        trainer = None
        for job in own:
            protocol = protocols[job.student, job.labels]
            if trainer is None or (trainer.student, trainer.protocol) != (job.student, protocol):
                trainer = StudentTrainer(job.student, teacher, protocol, spec.image_size)
            training_set = sets[job.set](job.seed)
            identity = fingerprint(
                {
                    "schema_version": SCHEMA_VERSION,
                    "student": job.student,
                    "seed": job.seed,
                    "protocol": dataclasses.asdict(trainer.protocol),
                    "teacher": teacher_hash,
                    "data": spec.name,
                },
                training_set.images,
                training_set.labels,
                test.labels,
            )
            _evaluate(trainer, job, training_set, test, identity, workdir, bar)
            crew.check()
    crew.wait("students")
    if crew.is_first:
        test.record_unreadable(workdir, "evaluate, test images")
    runs = [_read(workdir, job) for job in jobs]
    diversity = workdir.read_json(workdir.evaluation / "diversity.json")
    return EvaluateResult(tuple(runs), summarise(runs), diversity)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A student to train: its architecture, its labels, its set and its seed."""

    student: str
    labels: str
    set: str
    seed: int

    def path(self, workdir: WorkDir) -> pathlib.Path:
        """Where its result is."""
        kind = "" if self.labels == "soft" else f"-{self.labels}"
        return workdir.evaluation / f"{self.set}-{self.student}-{self.seed}{kind}.json"


def _evaluate(
    trainer: StudentTrainer,
    job: _Job,
    training_set: TrainingSet,
    test: CroppedImages,
    identity: str,
    workdir: WorkDir,
    bar: Progress,
) -> None:
    """Trains and tests one student, unless its file is there and was made from the same inputs."""
    path = job.path(workdir)
    if path.exists() and workdir.read_json(path).get("fingerprint") == identity:
        bar.advance(trainer.protocol.epochs)
        return
    trained = trainer.train(
        training_set.images,
        job.seed,
        test,
        workdir.evaluation / f".{path.stem}-{identity[:12]}",
        _reporter(MetricsLog(workdir.metrics_jsonl), bar, job.set, trainer, job.seed),
        labels=training_set.labels,
    )
    record = _as_record(trained, job.set, trainer, job.seed, training_set)
    record |= {"class_names": test.class_names, "fingerprint": identity}
    workdir.write_json(path, record)
    for checkpoints in workdir.evaluation.glob(f".{path.stem}-*"):
        shutil.rmtree(checkpoints, ignore_errors=True)


def _read(workdir: WorkDir, job: _Job) -> StudentRun:
    record = workdir.read_json(job.path(workdir))
    return StudentRun(
        **{field.name: record[field.name] for field in dataclasses.fields(StudentRun)}
    )


def _students(names: Any, teacher: Network) -> tuple[str, ...]:
    """Architectures by name, the teacher's for "" and "teacher"; each is built once to check it."""
    students = tuple(
        dict.fromkeys(teacher.arch if name in ("", "teacher") else name for name in names)
    )
    if not students:
        raise InputError("evaluate.students is empty; expected at least one architecture")
    for name in students:
        registry.create(name, teacher.num_classes, teacher.image_size)
    return students


def _check_sets(names: Any, seeds: Any) -> None:
    if not seeds:
        raise InputError("evaluate.seeds is empty; expected at least one seed")
    for name in names:
        if name not in SETS:
            raise InputError(f"evaluate.sets: {name!r}; expected some of {', '.join(SETS)}")


def _measure_diversity(
    sets: dict[str, Callable[[int], TrainingSet]], seeds: Any, teacher: Network
) -> dict[str, dict[str, Any]]:
    """Intra-class cosine in the teacher's penultimate features, without augmentation."""
    module = teacher.module
    moments = Statistics.of(teacher.mean, teacher.std)
    mesh = device_mesh(data_parallel.IMAGES)
    variables = data_parallel.replicate(teacher.variables, mesh)

    def features(variables, inputs, train):
        _, sown = module.apply(variables, inputs, train=train, mutable=["features"])
        return sown["features"]["penultimate"]

    features_of = programs.inference_program(features, mesh)

    def per_class(training_set: TrainingSet) -> Float[np.ndarray, " k"]:
        found = apply_in_batches(
            lambda part: features_of(variables, part, moments), training_set.images
        )
        labels = jnp.asarray(training_set.labels)
        cosines, _ = intra_class_cosine(jnp.asarray(found), labels, teacher.num_classes)
        return np.asarray(cosines)

    diversity = {}
    for name, images_of in sets.items():
        drawn = seeds if name == "random" else seeds[:1]
        classes = np.mean([per_class(images_of(seed)) for seed in drawn], axis=0)
        diversity[name] = {"mean": float(np.nanmean(classes)), "per_class": as_json(classes)}
    return diversity


def _reporter(
    log: MetricsLog, bar: Progress, name: str, trainer: StudentTrainer, seed: int
) -> Callable[[int, float, float], None]:
    """What is said after each epoch; epochs from before an interruption count as done."""
    done = 0

    def report(epoch: int, loss: float, top1: float) -> None:
        nonlocal done
        values = {}
        if trainer.protocol.is_tested(epoch):
            values = {"top1": top1}
            log.write(
                "evaluate",
                set=name,
                student=trainer.student,
                labels=trainer.protocol.labels,
                seed=seed,
                epoch=epoch + 1,
                loss=loss,
                top1=top1,
            )
        bar.advance(epoch + 1 - done, **values)
        done = epoch + 1

    return report


def _as_record(
    trained: Trained, name: str, trainer: StudentTrainer, seed: int, training_set: TrainingSet
) -> dict[str, Any]:
    """The content of one evaluation's file."""
    curve, protocol = trained.curve, trainer.protocol
    tested = curve.tested()
    best_epoch, best_top1 = max(tested, key=lambda entry: entry[1])
    return {
        "schema_version": SCHEMA_VERSION,
        "set": name,
        "student": trainer.student,
        "labels": protocol.labels,
        "seed": seed,
        "top1": tested[-1][1],
        "best_top1": best_top1,
        "best_epoch": best_epoch,
        "epochs": protocol.epochs,
        "images": len(training_set.images),
        "seconds": round(float(curve.seconds[-1]), 3),
        "protocol": dataclasses.asdict(protocol),
        "per_class": as_json(trained.per_class),
        "curve": tested,
        "loss": as_json(curve.loss),
    }


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
            top1_std=_deviation([run.top1 for run in group]),
            best_mean=float(np.mean([run.best_top1 for run in group])),
            best_std=_deviation([run.best_top1 for run in group]),
            labels=labels,
        )
        for (student, labels, name), group in groups.items()
    )


def _deviation(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
