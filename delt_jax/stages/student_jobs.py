"""Students to train, each with a file of its own: those that are there and unchanged are kept."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from delt_jax.data.class_order import check_order
from delt_jax.data.specs import DatasetSpec
from delt_jax.errors import InputError
from delt_jax.export.stored_labels import LabelFiles
from delt_jax.models.network import Network
from delt_jax.runtime import hosts, interruption, save_points, strict_json
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import CroppedImages, Scope
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.opening import open_test
from delt_jax.stages.protocol import Protocol
from delt_jax.stages.seeds_at_once import seeds_at_once
from delt_jax.stages.student import LabelledImages, StudentTrainer, Trained
from delt_jax.stages.student_groups import StudentGroups, group_name
from delt_jax.stages.training_sets import TrainingSet, open_sets

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Job:
    """A student to train.

    Attributes:
      student: architecture.
      protocol: how it is trained.
      set: what it learns from, by name.
      seed: of the student.
      kind: ends the file's name where a student, set and seed have several files.
      scope: the classes that it learns and is tested on; None: all.
      notes: what else its record and its lines of metrics say.
    """

    student: str
    protocol: Protocol
    set: str
    seed: int
    kind: str = ""
    scope: Scope | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its student among those of a folder."""
        kind = f"-{self.kind}" if self.kind else ""
        return f"{self.set}-{self.student}-{self.seed}{kind}"

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Where its result is."""
        return folder / f"{self.name}.json"

    def describe(self) -> dict[str, Any]:
        """What tells it from others, for records and metrics."""
        labels = self.protocol.labels
        found = {"set": self.set, "student": self.student, "labels": labels, "seed": self.seed}
        return {**found, **self.notes}


Run = TypeVar("Run")


def read_run(kind: type[Run], record: Mapping[str, Any]) -> Run:
    """A dataclass of some of the fields that a student's file holds."""
    return kind(**{field.name: record[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, eq=False)
class _Student:
    """What a student learns from, the hash of all that decides it, whether it has its result."""

    job: Job
    set: TrainingSet
    stored: LabelFiles | None
    identity: str
    is_done: bool


class StudentJobs:
    """Trains and tests the students of jobs; their records lie in one folder.

    Written are `<set>-<student>-<seed>[-<kind>].json` in the folder, beside it the metrics, and
    while students train their checkpoints; see `delt_jax.stages.student_groups`.

    Attributes:
      sets: each set's images as a function of the student's seed.
      test: the test set.

    Args:
      stage: whose students they are, for the metrics and the progress.
      folder: of the records.
      workdir: of the run; reads the teacher's card, writes metrics.
      sets: each set's images as a function of the student's seed.
      test: the test set.
      teacher: labels where labels are soft.
      data: name of the data set.
      at_once: `config.evaluate.seeds_at_once`.
      save_minutes: `config.checkpoint_minutes`.

    Raises:
      InputError: where the teacher has other classes than the test set, or another order of them.
    """

    def __init__(
        self,
        stage: str,
        folder: pathlib.Path,
        workdir: WorkDir,
        *,
        sets: dict[str, Callable[[int], TrainingSet]],
        test: CroppedImages,
        teacher: Network,
        data: str,
        at_once: int,
        save_minutes: float = save_points.MINUTES,
    ):
        if teacher.num_classes != len(test.class_names):
            raise InputError(
                f"teacher {teacher.arch} has {teacher.num_classes} classes, the test data "
                f"{len(test.class_names)}; expected as many"
            )
        check_order(teacher.class_names, test.class_names, "the teacher", "the test images")
        self._stage, self._folder, self._workdir = stage, folder, workdir
        self.sets, self.test, self._teacher = sets, test, teacher
        self._data, self._at_once, self._save_minutes = data, at_once, save_minutes
        self._teacher_hash = workdir.read_json(workdir.teacher / "card.json")["sha256"]
        self._groups = StudentGroups(folder, workdir)
        self._log = MetricsLog(workdir.metrics_jsonl)
        # Seeds that follow one another and learn the same images share them on the device, too.
        self._within = functools.lru_cache(maxsize=1)(_within)

    @classmethod
    def open(
        cls,
        stage: str,
        folder: pathlib.Path,
        config: Any,
        workdir: WorkDir,
        teacher: Network,
        spec: DatasetSpec,
    ) -> "StudentJobs":
        """Those of a config's sets, tested on its test set.

        Args:
          stage: as above.
          folder: as above.
          config: reads `ipc`, `checkpoint_minutes`, `data`, `distilled.{format,quality}` and
            `evaluate.{sets,seeds_at_once}`.
          workdir: of the run.
          teacher: as above.
          spec: of `config.data`.

        Raises:
          InputError: where the sets or the test set cannot be opened, or do not fit the teacher.
        """
        return cls(
            stage,
            folder,
            workdir,
            sets=open_sets(config, workdir, spec),
            test=open_test(config, spec),
            teacher=teacher,
            data=spec.name,
            at_once=config.evaluate.seeds_at_once,
            save_minutes=config.checkpoint_minutes,
        )

    def run(self, jobs: Sequence[Job], stored: LabelFiles | None = None) -> list[dict[str, Any]]:
        """Trains those without a result; students that differ by the seed may train together.

        Hosts share the jobs: each trains students of its own, which follow one another in `jobs`,
        on all of its devices, so none waits for the others before the end. Students that were
        begun together go to one host.

        Args:
          jobs: of this run.
          stored: what students of stored labels learn.

        Returns:
          The record of each job, of this run or an earlier one.

        Raises:
          InputError: where a student diverges.
        """
        crew = hosts.current()
        begun = self._groups.begun({job.name for job in jobs})
        begun = crew.agree(f"{self._stage} groups", begun)
        own = [job for unit in crew.dealt(_units(jobs, begun.values())) for job in unit]
        epochs = sum(job.protocol.epochs for job in own)
        alike: dict[Any, list[Job]] = {}
        for job in own:
            alike.setdefault((job.student, job.protocol, job.set, job.scope), []).append(job)
        in_groups = set(itertools.chain(*begun.values()))
        trainer, identities = None, {}
        with Progress(epochs, self._stage, "epochs") as bar:
            for (student, protocol, *_), some in alike.items():
                described = [self._describe(job, stored) for job in some]
                identities |= {one.job.name: one.identity for one in described}
                students = [
                    one for one in described if not one.is_done or one.job.name in in_groups
                ]
                waiting = sum(not one.is_done for one in students)
                bar.advance(protocol.epochs * (len(some) - waiting))
                if not waiting:
                    continue
                if trainer is None or (trainer.student, trainer.protocol) != (student, protocol):
                    size = students[0].set.images.shape[1]
                    trainer = StudentTrainer(student, self._teacher, protocol, size)
                for group in self._grouped(trainer, students, begun):
                    with interruption.held_back():  # until what is trained is written
                        self._train(trainer, group, bar)
                    crew.check()
        for theirs in crew.gather(f"{self._stage} students", identities):
            identities |= theirs
        if crew.is_first:  # a kill may have come between a student's file and the end of these
            self._groups.discard({job.name for job in jobs})
        return [self._record(job, identities[job.name]) for job in jobs]

    def _record(self, job: Job, identity: str) -> dict[str, Any]:
        """A job's record; another host may have written it a moment ago, over an older one."""
        path = job.path(self._folder)
        return hosts.seen(
            lambda: self._workdir.read_json(path) if path.exists() else {},
            lambda record: record.get("fingerprint") == identity,
            f"{path}, of this run",
        )

    def _describe(self, job: Job, stored: LabelFiles | None) -> _Student:
        """A job's student; it is done where its file is there, made from the same inputs."""
        chosen, test_labels = self.sets[job.set](job.seed), self.test.labels
        decisive = {
            "schema_version": SCHEMA_VERSION,
            "student": job.student,
            "seed": job.seed,
            "protocol": dataclasses.asdict(job.protocol),
            "teacher": self._teacher_hash,
            "data": self._data,
        }
        labels = stored if job.protocol.labels == "stored" else None
        if labels is not None:
            decisive["stored_labels"] = labels.fingerprint
        if job.scope is not None:  # whose classes the labels tell
            chosen = self._within(chosen, job.scope)
            test_labels = test_labels[job.scope.positions(test_labels)]
            decisive["argmax"] = job.scope.argmax
        identity = fingerprint(decisive, chosen.images, chosen.labels, test_labels)
        path = job.path(self._folder)
        is_done = path.exists() and self._workdir.read_json(path).get("fingerprint") == identity
        return _Student(job, chosen, labels, identity, is_done)

    def _grouped(
        self, trainer: StudentTrainer, students: list[_Student], begun: Mapping[str, list[str]]
    ) -> list[list[_Student]]:
        """Those that train together: as they have begun, if they still fit; then the others."""
        left, found = {one.job.name: one for one in students}, []
        for name, members in begun.items():
            group = [left[member] for member in members if member in left]
            if all(one.is_done for one in group) or name != _name(group):
                continue
            if self._seeds_at_once(trainer, group) == len(group):
                found.append(group)
                left = {other: one for other, one in left.items() if other not in members}
        pending = [one for one in left.values() if not one.is_done]
        count = self._seeds_at_once(trainer, pending) if pending else 1
        return found + [pending[place : place + count] for place in range(0, len(pending), count)]

    def _seeds_at_once(self, trainer: StudentTrainer, students: list[_Student]) -> int:
        images = students[0].set.images
        return seeds_at_once(
            self._at_once,
            len(students),
            trainer.module,
            images.shape[1],
            trainer.protocol,
            images.nbytes,
        )

    def _train(self, trainer: StudentTrainer, group: list[_Student], bar: Progress) -> None:
        """Trains students of one set together, tests them and writes the files that are missing."""
        names = [one.job.name for one in group]
        trained = trainer.train_together(
            [LabelledImages(one.set.images, one.set.labels) for one in group],
            [one.job.seed for one in group],
            self.test,
            self._groups.begin(names, [one.identity for one in group]),
            self._reporter(group, bar),
            group[0].job.scope,
            group[0].stored,
            self._save_minutes,
        )
        for one, student in zip(group, trained, strict=True):
            if not one.is_done:
                record = _as_record(student, one.job, len(one.set.images))
                record |= {"class_names": self.test.class_names, "fingerprint": one.identity}
                self._workdir.write_json(one.job.path(self._folder), record)
        self._groups.discard(names)

    def _reporter(self, group: list[_Student], bar: Progress) -> Callable[[int, Any, Any], None]:
        """What is said after each epoch; epochs from before an interruption count as done."""
        done, waiting = 0, sum(not one.is_done for one in group)

        def report(epoch: int, losses: Any, top1: Any) -> None:
            nonlocal done
            values = {}
            if group[0].job.protocol.is_tested(epoch):
                values = {"top1": float(np.mean(top1))}
                for one, loss, accuracy in zip(group, losses, top1, strict=True):
                    if not one.is_done:
                        self._log.write(
                            self._stage,
                            **one.job.describe(),
                            epoch=epoch + 1,
                            loss=float(loss),
                            top1=float(accuracy),
                        )
            bar.advance((epoch + 1 - done) * waiting, **values)
            done = epoch + 1

        return report


def _units(jobs: Sequence[Job], groups: Iterable[Sequence[str]]) -> list[list[Job]]:
    """Jobs as hosts share them: those of a group that was begun are one, any other is by itself."""
    group_of = {name: number for number, names in enumerate(groups) for name in names}
    units: dict[Any, list[Job]] = {}
    for job in jobs:
        units.setdefault(group_of.get(job.name, job.name), []).append(job)
    return list(units.values())


def _name(group: list[_Student]) -> str:
    return group_name([one.job.name for one in group], [one.identity for one in group])


def _within(images: TrainingSet, scope: Scope) -> TrainingSet:
    """The images of a scope's classes."""
    kept = scope.positions(images.labels)
    return TrainingSet(images.images[kept], images.labels[kept])


def _as_record(trained: Trained, job: Job, images: int) -> dict[str, Any]:
    """The content of one student's file."""
    curve = trained.curve
    tested = curve.tested()
    best_epoch, best_top1 = max(tested, key=lambda entry: entry[1])
    seen = {} if job.scope is None else {"seen": list(job.scope.classes)}
    return {
        "schema_version": SCHEMA_VERSION,
        **job.describe(),
        **seen,
        "top1": tested[-1][1],
        "best_top1": best_top1,
        "best_epoch": best_epoch,
        "epochs": job.protocol.epochs,
        "images": images,
        "seconds": round(float(curve.seconds[-1]), 3),
        "protocol": dataclasses.asdict(job.protocol),
        "per_class": strict_json.plain(trained.per_class),
        "curve": tested,
        "loss": strict_json.plain(curve.loss),
    }
