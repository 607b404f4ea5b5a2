"""Students to train, each with a file of its own: those that are there and unchanged are kept."""

import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from delt_jax.models.network import Network
from delt_jax.runtime import hosts
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.protocol import Protocol
from delt_jax.stages.seeds_at_once import seeds_at_once
from delt_jax.stages.student import LabelledImages, StudentTrainer, Trained, as_json
from delt_jax.stages.training_sets import TrainingSet

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Job:
    """A student to train.

    Attributes:
      student: architecture.
      protocol: how it is trained.
      set: what it learns from, by name.
      seed: of the student.
      kind: ends the file's name where a student, set and seed have several protocols.
    """

    student: str
    protocol: Protocol
    set: str
    seed: int
    kind: str = ""

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Where its result is."""
        kind = f"-{self.kind}" if self.kind else ""
        return folder / f"{self.set}-{self.student}-{self.seed}{kind}.json"

    def describe(self) -> dict[str, Any]:
        """What tells it from others, for records and metrics."""
        labels = self.protocol.labels
        return {"set": self.set, "student": self.student, "labels": labels, "seed": self.seed}


@dataclasses.dataclass(frozen=True, eq=False)
class _Pending:
    """A student without a result: what it learns from, and the hash of all that decides it."""

    job: Job
    set: TrainingSet
    identity: str


class StudentJobs:
    """Trains and tests the students of jobs; their records lie in one folder.

    Args:
      stage: whose students they are, for the metrics.
      folder: of the records.
      workdir: of the run; reads the teacher's card, writes metrics.
      sets: each set's images as a function of the student's seed.
      test: the test set.
      teacher: labels where labels are soft.
      data: name of the data set.
      at_once: `config.evaluate.seeds_at_once`.
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
    ):
        self._stage, self._folder, self._workdir = stage, folder, workdir
        self._sets, self._test, self._teacher = sets, test, teacher
        self._data, self._at_once = data, at_once
        self._teacher_hash = workdir.read_json(workdir.teacher / "card.json")["sha256"]
        self._log = MetricsLog(workdir.metrics_jsonl)

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Trains those without a result; seeds that follow one another may train together.

        Hosts share the jobs: each trains students of its own, on all of its devices, so none waits
        for the others before the end.

        Returns:
          The record of each job, of this run or an earlier one.

        Raises:
          InputError: where a student diverges.
        """
        crew = hosts.current()
        own = crew.dealt(jobs)
        epochs = sum(job.protocol.epochs for job in own)
        trainer = None
        with Progress(epochs, "evaluating", "epochs") as bar:
            groups = itertools.groupby(own, key=lambda job: (job.student, job.protocol, job.set))
            for (student, protocol, _), group in groups:
                pending = [one for one in map(self._pending, group) if one is not None]
                if not pending:
                    continue
                if trainer is None or (trainer.student, trainer.protocol) != (student, protocol):
                    size = pending[0].set.images.shape[1]
                    trainer = StudentTrainer(student, self._teacher, protocol, size)
                count = self._seeds_at_once(trainer, pending)
                for place in range(0, len(pending), count):
                    self._train(trainer, pending[place : place + count], bar)
                    crew.check()
        crew.wait(f"{self._stage} students")
        return [self._workdir.read_json(job.path(self._folder)) for job in jobs]

    def _pending(self, job: Job) -> _Pending | None:
        """What a job needs to be done; None where its file is there, made from the same inputs."""
        chosen = self._sets[job.set](job.seed)
        identity = fingerprint(
            {
                "schema_version": SCHEMA_VERSION,
                "student": job.student,
                "seed": job.seed,
                "protocol": dataclasses.asdict(job.protocol),
                "teacher": self._teacher_hash,
                "data": self._data,
            },
            chosen.images,
            chosen.labels,
            self._test.labels,
        )
        path = job.path(self._folder)
        if path.exists() and self._workdir.read_json(path).get("fingerprint") == identity:
            return None
        return _Pending(job, chosen, identity)

    def _seeds_at_once(self, trainer: StudentTrainer, pending: list[_Pending]) -> int:
        images = pending[0].set.images
        return seeds_at_once(
            self._at_once,
            len(pending),
            trainer.module,
            images.shape[1],
            trainer.protocol,
            images.nbytes,
        )

    def _train(self, trainer: StudentTrainer, pending: list[_Pending], bar: Progress) -> None:
        """Trains students of one set together, tests them and writes their files."""
        jobs = [one.job for one in pending]
        stems = [job.path(self._folder).stem for job in jobs]
        together = fingerprint({"students": [one.identity for one in pending]})
        trained = trainer.train_together(
            [LabelledImages(one.set.images, one.set.labels) for one in pending],
            [job.seed for job in jobs],
            self._test,
            self._folder / f".{stems[0]}.{together[:12]}",
            self._reporter(jobs, bar),
        )
        for one, student in zip(pending, trained, strict=True):
            record = _as_record(student, one.job, len(one.set.images))
            record |= {"class_names": self._test.class_names, "fingerprint": one.identity}
            self._workdir.write_json(one.job.path(self._folder), record)
        for stem in stems:
            for checkpoints in self._folder.glob(f".{stem}.*"):
                shutil.rmtree(checkpoints, ignore_errors=True)

    def _reporter(self, jobs: list[Job], bar: Progress) -> Callable[[int, Any, Any], None]:
        """What is said after each epoch; epochs from before an interruption count as done."""
        done = 0

        def report(epoch: int, losses: Any, top1: Any) -> None:
            nonlocal done
            values = {}
            if jobs[0].protocol.is_tested(epoch):
                values = {"top1": float(np.mean(top1))}
                for job, loss, accuracy in zip(jobs, losses, top1, strict=True):
                    self._log.write(
                        self._stage,
                        **job.describe(),
                        epoch=epoch + 1,
                        loss=float(loss),
                        top1=float(accuracy),
                    )
            bar.advance((epoch + 1 - done) * len(jobs), **values)
            done = epoch + 1

        return report


def _as_record(trained: Trained, job: Job, images: int) -> dict[str, Any]:
    """The content of one student's file."""
    curve = trained.curve
    tested = curve.tested()
    best_epoch, best_top1 = max(tested, key=lambda entry: entry[1])
    return {
        "schema_version": SCHEMA_VERSION,
        **job.describe(),
        "top1": tested[-1][1],
        "best_top1": best_top1,
        "best_epoch": best_epoch,
        "epochs": job.protocol.epochs,
        "images": images,
        "seconds": round(float(curve.seconds[-1]), 3),
        "protocol": dataclasses.asdict(job.protocol),
        "per_class": as_json(trained.per_class),
        "curve": tested,
        "loss": as_json(curve.loss),
    }
