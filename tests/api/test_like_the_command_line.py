"""The API computes what the stages of the command line compute, bit for bit."""

import numpy as np
import pytest
import tiny_run

import delt_jax
from delt_jax import pipeline
from delt_jax.data.selection import read_ranking
from delt_jax.export.image_folder import read_distilled
from delt_jax.models.network import load_network
from delt_jax.models.torch_weights import to_state_dict
from delt_jax.runtime.workdir import WorkDir

SQUEEZE = {"epochs": 3, "batch_size": 10, "learning_rate": 0.02, "warmup_epochs": 0.0, "pad": 1}
SYNTHESIS = {"iterations": 6, "round_iterations": 2, "class_batch": 4, "log_every": 1}
EVALUATE = {"epochs": 2, "eval_every": 2, "seeds": (1, 2), "batch_size": 3, "randaugment_ops": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("colours")


@pytest.fixture(scope="module")
def run(folder):
    """A run of the pipeline."""
    config, workdir = tiny_run.make_config(folder), WorkDir(folder / "run")
    config.seed, config.evaluate.sets, config.evaluate.real_images = 5, ("distilled",), 0
    config.synthesis.update(SYNTHESIS)
    config.evaluate.update(EVALUATE)
    stages = ("squeeze", "select", "synthesize", "relabel", "evaluate")
    results = pipeline.run(config, workdir, stages, say=lambda line: None)
    return workdir, results["evaluate"]


@pytest.fixture(scope="module")
def data(folder, run):
    return delt_jax.load_data(str(folder / "colours.npz"), image_size=tiny_run.SIZE)


@pytest.fixture(scope="module")
def teacher(data):
    return delt_jax.train_teacher(*data, arch="conv3", seed=5, **SQUEEZE)


@pytest.fixture(scope="module")
def distilled(data, teacher):
    return delt_jax.synthesize(teacher, data[0], ipc=2, seed=5, **SYNTHESIS)


def test_the_same_teacher(run, teacher):
    theirs = load_network(run[0].teacher)
    assert (teacher.mean, teacher.std) == (theirs.mean, theirs.std)
    assert teacher.top1 == theirs.top1
    expected = to_state_dict(theirs.variables)
    for name, weights in to_state_dict(teacher.variables).items():
        np.testing.assert_array_equal(weights, expected[name], err_msg=name)


def test_the_same_ranking(run, data, teacher):
    scores, boxes = read_ranking(run[0].ranking_csv, data[0].source)
    ranking = delt_jax.rank(teacher, data[0], seed=5)
    np.testing.assert_allclose(ranking.scores, scores, rtol=1e-6)  # the table has few digits
    assert ranking.boxes is None and boxes is None


def test_the_same_images(run, distilled):
    images, labels, records = read_distilled(run[0].distilled)
    np.testing.assert_array_equal(distilled.images, images)
    np.testing.assert_array_equal(distilled.labels, labels)
    assert distilled.sources == tuple(record.source for record in records)
    assert distilled.join_rounds.tolist() == [0, 1, 0, 1, 0, 1]
    assert distilled.iterations.tolist() == [6, 4, 6, 4, 6, 4]


def test_a_ranking_that_is_given_changes_nothing(data, teacher, distilled):
    ranking = delt_jax.rank(teacher, data[0])
    for given in (ranking, ranking.scores):
        again = delt_jax.synthesize(teacher, data[0], ipc=2, seed=5, ranking=given, **SYNTHESIS)
        np.testing.assert_array_equal(again.images, distilled.images)


def test_the_same_students(run, data, teacher, distilled):
    found = delt_jax.evaluate(distilled, data[1], teacher, **EVALUATE)
    theirs = run[1]
    assert [one.top1 for one in found.students] == [one.top1 for one in theirs.runs]
    assert found.summaries == theirs.summaries
    assert found.top1 == theirs.summaries[0].top1_mean


def test_what_a_run_made_is_opened(run, data, distilled):
    workdir = run[0]
    np.testing.assert_array_equal(delt_jax.load_distilled(workdir.path).images, distilled.images)
    teacher = delt_jax.load_teacher(workdir.path, data[0])
    assert teacher.top1 == load_network(workdir.teacher).top1
