"""Jobs of students: what tells them apart, what is refused, who trains together and goes on so."""

import dataclasses
import errno
import functools
import types
from typing import Any

import numpy as np
import pytest
from interrupting import interrupted_at
from tiny_run import CLASSES, SIZE, coloured, make_config, save_teacher, train_source

from delt_jax.data.selection import Subset
from delt_jax.errors import InputError
from delt_jax.runtime import hosts
from delt_jax.runtime.hosts import Hosts
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import student_jobs
from delt_jax.stages.cropped_images import CroppedImages, Scope
from delt_jax.stages.opening import describe
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student import StudentTrainer, Trained
from delt_jax.stages.student_jobs import Job, StudentJobs
from delt_jax.stages.students_under_way import Curve, UnderWay
from delt_jax.stages.training_sets import TrainingSet


def test_a_job_has_a_file_and_says_what_it_is(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    protocol = read_protocol(config, "conv3", describe(config), save_teacher(workdir), "hard")
    told = {"set": "random", "student": "conv3", "labels": "hard", "seed": 4}
    plain = Job("conv3", protocol, "random", 4)
    assert plain.path(tmp_path) == tmp_path / "random-conv3-4.json"
    assert plain.describe() == told
    step = Job("conv3", protocol, "random", 4, "step2", Scope((0, 2)), {"step": 2, "classes": 2})
    assert step.path(tmp_path) == tmp_path / "random-conv3-4-step2.json"
    assert step.describe() == {**told, "step": 2, "classes": 2}


def test_a_record_has_the_last_epoch_first_and_the_best_beside_it(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    protocol = read_protocol(config, "conv3", describe(config), save_teacher(workdir))
    top1 = np.array([40.0, np.nan, 60.0, 50.0])
    curve = Curve(np.full(4, 0.5), top1, np.arange(1.0, 5.0))
    trained = Trained({}, curve, np.array([40.0, 50.0, 60.0]))
    record = student_jobs._as_record(trained, Job("conv3", protocol, "random", 4), images=6)
    assert (record["top1"], record["best_top1"], record["best_epoch"]) == (50.0, 60.0, 3)
    assert record["curve"] == [(1, 40.0), (3, 60.0), (4, 50.0)]


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    teacher, source = save_teacher(workdir), train_source(config)
    fewer = Subset(source, source.labels.nonzero()[0])
    fewer.class_names = CLASSES[1:]
    with pytest.raises(InputError, match="conv3 has 3 classes, the test data 2; expected as many"):
        StudentJobs(
            *("evaluate", workdir.evaluation, workdir),
            sets={},
            test=CroppedImages(fewer, SIZE),
            teacher=teacher,
            data="colours",
            at_once=0,
        )


SEEDS = (1, 2, 3)
NAMES = [f"random-conv3-{seed}" for seed in SEEDS]


@pytest.fixture
def began(monkeypatch):
    """How many students train in one program, and from which step on, of each group in turn."""
    groups, restore = [], UnderWay.restore

    def spy(self, placed):
        restore(self, placed)
        groups.append((len(self.curves.loss), self.done))

    monkeypatch.setattr(UnderWay, "restore", spy)
    return groups


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains students of three seeds, of four steps each, in a folder; returns their losses."""
    # Its programs are compiled once for all runs of a test.
    monkeypatch.setattr(student_jobs, "StudentTrainer", functools.cache(StudentTrainer))
    config, workdir = make_config(tmp_path), WorkDir(tmp_path)
    teacher, test = save_teacher(workdir), CroppedImages(train_source(config), SIZE)
    protocol = read_protocol(config, "conv3", describe(config), teacher, "hard")
    protocol = dataclasses.replace(protocol, views=None, epochs=2, eval_every=0)
    labels = np.arange(6) % 3
    images = TrainingSet(coloured(labels, 5), labels)
    jobs = [Job("conv3", protocol, "random", seed) for seed in SEEDS]

    def train(folder, at_once):
        work = StudentJobs(
            *("evaluate", tmp_path / folder, workdir),
            sets={"random": lambda seed: images},
            test=test,
            teacher=teacher,
            data="colours",
            at_once=at_once,
            save_minutes=600,
        )
        return [record["loss"] for record in work.run(jobs)]

    return train


def test_students_that_began_together_end_so_though_one_has_its_file(
    train, began, tmp_path, monkeypatch
):
    expected = train("whole", 3)
    with interrupted_at(3):
        train("run", 3)
    write = WorkDir.write_json

    def write_until_full(self, path, value):
        if path.stem == NAMES[1]:
            raise OSError(errno.ENOSPC, "", str(path))
        write(self, path, value)

    with monkeypatch.context() as patch:
        patch.setattr(WorkDir, "write_json", write_until_full)
        with pytest.raises(OSError):
            train("run", 3)
    first = tmp_path / "run" / f"{NAMES[0]}.json"
    stamp = first.stat().st_mtime_ns
    assert train("run", 3) == expected
    assert began == [(3, 0), (3, 0), (3, 3), (3, 3)]
    assert first.stat().st_mtime_ns == stamp
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {f"{name}.json" for name in NAMES}


dealt: Any = Hosts.dealt


def as_host(patch, index, count):
    """Lets this process be one of several hosts, the others of which are never waited for."""
    share = types.SimpleNamespace(index=index, count=count)
    patch.setattr(Hosts, "dealt", lambda self, items: dealt(share, items))
    patch.setattr(Hosts, "is_first", index == 0)


def test_students_that_a_lost_host_began_go_on_together(train, began, monkeypatch):
    expected = train("whole", 2)
    with monkeypatch.context() as patch, interrupted_at(3):
        as_host(patch, 0, 2)
        train("run", 3)
    assert train("run", 3) == expected
    assert began == [(2, 0), (1, 0), (2, 0), (2, 3), (1, 0)]


def test_students_that_began_together_are_dealt_to_one_host(train, began, monkeypatch):
    with interrupted_at(3):
        train("run", 3)
    with monkeypatch.context() as patch:
        as_host(patch, 1, 2)
        with pytest.raises(KeyError, match=NAMES[0]):
            train("run", 3)  # it has no share, and nobody tells what the files are to be
    as_host(monkeypatch, 0, 2)
    train("run", 3)
    assert began == [(3, 0), (3, 3)]


def test_students_that_are_to_train_one_by_one_do_so_though_they_began_together(train, began):
    """As when memory was too little for them."""
    with interrupted_at(3):
        train("run", 3)
    assert train("run", 1) == train("whole", 1)
    assert began == [(3, 0)] + 6 * [(1, 0)]


def test_a_record_of_another_host_is_waited_for(tmp_path, monkeypatch):
    """A shared file system shows no file at first, then what lay there before, then the record."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path)
    teacher = save_teacher(workdir)
    protocol = read_protocol(config, "conv3", describe(config), teacher, "hard")
    job = Job("conv3", protocol, "random", 4)
    work = StudentJobs(
        *("evaluate", workdir.evaluation, workdir),
        sets={},
        test=CroppedImages(train_source(config), SIZE),
        teacher=teacher,
        data="colours",
        at_once=0,
    )
    shown = iter([None, {"fingerprint": "old", "top1": 1.0}, {"fingerprint": "new", "top1": 2.0}])

    def look_again(seconds):
        if (record := next(shown)) is not None:
            workdir.write_json(job.path(workdir.evaluation), record)

    monkeypatch.setattr(hosts, "time", types.SimpleNamespace(monotonic=float, sleep=look_again))
    assert work._record(job, "new")["top1"] == 2.0
    assert next(shown, "all") == "all"
