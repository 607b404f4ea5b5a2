"""The fairness stage: what it trains, what it reuses, what it refuses."""

import math

import pytest
from tiny_run import make_config, save_distilled, save_teacher

from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import evaluate, fairness

INGREDIENTS = {
    "full_data_hard": 90.0,
    "distilled_hard": [40.0, 50.0],
    "distilled_soft": [52.0, 60.0],
    "random_soft": [30.0, 40.0],
    "distilled_plain": [15.0, 20.0],
    "random_plain": [20.0, 20.0],
}


def scored(difference):
    return (math.exp(difference) - math.exp(-1)) / (math.e - math.exp(-1))


def test_scores_of_percent_by_hand():
    found = fairness.scores(INGREDIENTS)
    # (.22 - .5) / 2 and (.2 - .4) / 2; (.22 - .05) / 2 and (.2 + 0) / 2.
    lrs, ars = (scored(-0.14), scored(-0.1)), (scored(0.085), scored(0.1))
    assert found.lrs_mean == pytest.approx(sum(lrs) / 2, abs=1e-6)
    assert found.lrs_std == pytest.approx(abs(lrs[0] - lrs[1]) / 2**0.5, abs=1e-6)
    assert found.ars_mean == pytest.approx(sum(ars) / 2, abs=1e-6)
    assert found.ars_std == pytest.approx(abs(ars[0] - ars[1]) / 2**0.5, abs=1e-6)
    one = {
        name: value[:1] if name != "full_data_hard" else value
        for name, value in INGREDIENTS.items()
    }
    assert fairness.scores(one).lrs_std is None


@pytest.fixture
def prepared(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    save_teacher(workdir)  # a conv3 of top-1 50
    save_distilled(workdir, config)
    config.evaluate.sets, config.evaluate.seeds = ("distilled", "random"), (1, 2)
    config.evaluate.epochs = 1
    config.fairness.learning_rates = (0.001, 0.01)
    return config, workdir


def test_trains_what_the_scores_are_made_of_once(prepared):
    config, workdir = prepared
    evaluated = evaluate.run(config, workdir)
    result = fairness.run(config, workdir)
    made_of = result.ingredients
    assert made_of["distilled_soft"] == [run.top1 for run in evaluated.runs[:2]]
    assert made_of["random_soft"] == [run.top1 for run in evaluated.runs[2:]]
    assert made_of["full_data_hard"] == 50.0
    assert set(made_of["hard_by_learning_rate"]) == {"0.001", "0.01"}
    best = max(made_of["hard_by_learning_rate"].values())
    assert sum(made_of["distilled_hard"]) / 2 == pytest.approx(best)
    names = {path.name for path in workdir.fairness.iterdir()}
    kinds = ("distilled-conv3-{}-plain", "random-conv3-{}-plain", "distilled-conv3-{}-hard-0.001")
    kinds += ("distilled-conv3-{}-hard-0.01",)
    expected = {f"{kind.format(seed)}.json" for kind in kinds for seed in (1, 2)}
    assert names == {"fairness.json", *expected}
    plain = workdir.read_json(workdir.fairness / "random-conv3-2-plain.json")
    assert plain["protocol"]["views"] is None
    assert plain["top1"] == made_of["random_plain"][1]
    hard = workdir.read_json(workdir.fairness / "distilled-conv3-1-hard-0.01.json")
    assert (hard["labels"], hard["protocol"]["learning_rate"]) == ("hard", 0.01)
    assert workdir.read_json(workdir.fairness_json)["lrs_mean"] == result.lrs_mean

    stamps = {path: path.stat().st_mtime_ns for path in workdir.fairness.glob("*-conv3-*")}
    again = fairness.run(config, workdir)
    assert again == result
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluate.sets": ("distilled",)}, "needs 'random'"),
        ({"evaluate.labels": ("hard",)}, "needs 'soft'"),
        ({"evaluate.augment": False}, "augment False: expected True"),
        ({"evaluate.students": ("alexnet",)}, "full_data_top1 0 with student alexnet and teacher"),
        ({"fairness.learning_rates": ()}, "learning_rates: got .* at least one"),
        ({"fairness.learning_rates": (0.1, 0.0)}, r"a number from 1e-30.*, unlike 0\.0"),
        (
            {"fairness.full_data_top1": 101.0},
            r"full_data_top1: got 101\.0, expected a number from 0 to 100",
        ),
        ({}, r"distilled-conv3-1\.json: not there; expected the result of an earlier stage"),
    ],
)
def test_refuses_before_it_trains(prepared, change, message):
    config, workdir = prepared
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        fairness.run(config, workdir)
    assert not workdir.fairness.exists()
