"""Jobs of students: what tells them apart, what is refused."""

import pytest
from tiny_run import CLASSES, SIZE, make_config, save_teacher, train_source

from delt_jax.data.selection import Subset
from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import CroppedImages, Scope
from delt_jax.stages.opening import describe
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student_jobs import Job, StudentJobs


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
