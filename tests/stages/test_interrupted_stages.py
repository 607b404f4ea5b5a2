"""Every stage that is asked to end saves where it is, and goes on to the same bits."""

import shutil

import jax
import numpy as np
import pytest
from interrupting import interrupted_at
from test_synthesize import images_of, prepare
from tiny_run import (
    SIZE,
    coloured,
    make_config,
    save_distilled,
    save_teacher,
    train_source,
)

from delt_jax import pipeline
from delt_jax.data.selection import Selection, write_selection
from delt_jax.models.network import load_network
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import (
    continual,
    device_pool,
    evaluate,
    fairness,
    select,
    squeeze,
    student,
    synthesize,
)
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.opening import describe

# Every checkpoint below is one that SIGTERM has caused.
HOURS = 600.0


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("place", [1, 5])
def test_squeeze(tmp_path, place):
    config, whole = make_config(tmp_path), WorkDir(tmp_path / "whole")
    config.checkpoint_minutes = HOURS
    config.teacher.squeeze.average_decay = 0.5
    squeeze.run(config, whole)
    workdir = WorkDir(tmp_path / "run")
    with interrupted_at(place):
        squeeze.run(config, workdir)
    (checkpoints,) = workdir.teacher.glob(".training-*")
    assert [int(path.name) for path in checkpoints.iterdir()] == [place]
    squeeze.run(config, workdir)
    assert_equal(load_network(workdir.teacher).variables, load_network(whole.teacher).variables)


def test_the_ranking_of_select(tmp_path):
    config = make_config(tmp_path)
    config.select.batch_size, config.checkpoint_minutes = 8, HOURS
    made = []
    for name in ("whole", "run"):
        workdir = WorkDir(tmp_path / name)
        save_teacher(workdir)
        if name == "run":
            with interrupted_at(4):
                select.run(config, workdir)
            (part,) = (workdir.path / "scores").iterdir()
            with np.load(part) as saved:
                assert saved["batches"] == 2  # of the four, two were still on the device
            assert not workdir.ranking_csv.exists()
        select.run(config, workdir)
        (stage,) = (stage for stage in pipeline.STAGES if stage.name == "select")
        stage.remove_leftovers(workdir)
        assert not list(workdir.path.glob("*partial*"))
        made.append((workdir.ranking_csv.read_bytes(), workdir.selection_csv.read_bytes()))
    assert made[0] == made[1]


@pytest.mark.parametrize("place", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_synthesize(tmp_path, place):
    config, whole = prepare(tmp_path, "whole")
    config.checkpoint_minutes, config.synthesis.log_every = HOURS, 100
    synthesize.run(config, whole)
    _, workdir = prepare(tmp_path, "run")
    with interrupted_at(place):
        synthesize.run(config, workdir)
    steps = [int(p.name) for p in workdir.synthesis.glob("checkpoints/*/*") if p.name.isdigit()]
    assert steps == [place]
    result = synthesize.run(config, workdir)
    assert result.image_iterations == result.promised
    np.testing.assert_array_equal(images_of(workdir), images_of(whole))


@pytest.mark.parametrize(
    ("pool_bytes", "seeds"), [(0, [3]), pytest.param(2**30, [3, 4], marks=pytest.mark.slow)]
)
def test_students_within_an_epoch_and_within_a_test(tmp_path, monkeypatch, pool_bytes, seeds):
    """Six images in batches of 4: after the first step, the second, a test, the third step."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    config.evaluate.batch_size, config.evaluate.epochs, config.evaluate.eval_every = 4, 2, 1
    config.evaluate.average_decay = 0.5
    monkeypatch.setattr(device_pool, "pool_bytes", lambda: pool_bytes)
    teacher = save_teacher(workdir)
    protocol = evaluate.read_protocol(config, "conv3", describe(config), teacher)
    trainer = student.StudentTrainer("conv3", teacher, protocol, SIZE)
    test = CroppedImages(train_source(config), SIZE)
    sets = [student.LabelledImages(coloured(np.arange(6) % 3, 5))] * len(seeds)

    def train(name, on_epoch=lambda epoch, losses, top1: None):
        return trainer.train_together(
            sets, seeds, test, tmp_path / "students" / name, on_epoch, save_minutes=HOURS
        )

    whole, epochs = train("whole"), []
    for place, step in ((1, 1), (1, 2), (1, 2), (len(seeds) + 1, 3)):
        with interrupted_at(place):
            train("run", lambda epoch, *_: epochs.append(epoch))
        steps = [int(path.name) for path in (tmp_path / "students" / "run").iterdir()]
        assert max(steps) == step
    resumed = train("run", lambda epoch, *_: epochs.append(epoch))
    assert epochs == [0, 1]
    for one, other in zip(resumed, whole, strict=True):
        assert_equal(one.variables, other.variables)
        for name in ("loss", "top1"):
            np.testing.assert_array_equal(getattr(one.curve, name), getattr(other.curve, name))
        np.testing.assert_array_equal(one.per_class, other.per_class)
        assert (np.diff(one.curve.seconds) > 0).all()


def test_stages_that_train_several_students_keep_those_that_are_done(tmp_path):
    config = make_config(tmp_path)
    config.evaluate.sets, config.evaluate.seeds, config.evaluate.epochs = ("distilled",), (1,), 1
    config.continual.steps, config.checkpoint_minutes = 3, HOURS
    made = []
    for name in ("whole", "run"):
        workdir = WorkDir(tmp_path / name)
        save_teacher(workdir)
        save_distilled(workdir, config)
        chosen = np.array([[0, 3], [4, 1], [2, 8]])
        write_selection(workdir, train_source(config), Selection(chosen, np.full((3, 2), 0.5)))
        if name == "run":
            with interrupted_at(4):  # the first student has one step and one batch of tests
                continual.run(config, workdir)
            done = sorted(path.name for path in workdir.continual.glob("*.json"))
            assert done == ["distilled-conv3-1-step1.json"]
        result = continual.run(config, workdir)
        made.append([(one.step, one.top1) for one in result.runs])
    assert made[0] == made[1]


def test_fairness(tmp_path):
    config, whole = make_config(tmp_path), WorkDir(tmp_path / "whole")
    config.evaluate.sets, config.evaluate.seeds = ("distilled", "random"), (1,)
    config.evaluate.epochs, config.checkpoint_minutes = 1, HOURS
    config.fairness.learning_rates = (0.001, 0.01)
    save_teacher(whole)
    save_distilled(whole, config)
    evaluate.run(config, whole)
    workdir = WorkDir(tmp_path / "run")
    shutil.copytree(whole.path, workdir.path)
    expected = fairness.run(config, whole)
    with interrupted_at(6):  # a student has two steps and one batch of tests
        fairness.run(config, workdir)
    assert len(list(workdir.fairness.glob("*-conv3-*.json"))) == 1
    assert not workdir.fairness_json.exists()
    assert fairness.run(config, workdir) == expected
    made = workdir.fairness_json.read_text(), whole.fairness_json.read_text()
    assert made[0] == made[1]
