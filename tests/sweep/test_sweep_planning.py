"""Commands of points: what they take over from one another, and which are done."""

import os
import shutil

import fabricated
import pytest

from delt_jax.errors import InputError
from delt_jax.sweep.planning import plan
from delt_jax.sweep.points import Point, Sweep


def of(*points):
    return Sweep("s", "S", tuple(points))


def shared(step):
    return (step.teacher and step.teacher.number, step.ranking and step.ranking.number)


def test_the_command_of_a_point(tmp_path):
    point = Point("a", "configs/digits.py:ipc=5", {"evaluate.students": ("teacher", "conv3")})
    (step,) = plan(of(point), tmp_path, ["--config.evaluate.epochs=2", "--overwrite"])
    assert step.command[1:] == [
        *("-m", "delt_jax.main", "--config=configs/digits.py:ipc=5"),
        "--config.evaluate.students=('teacher', 'conv3')",
        *("--config.evaluate.epochs=2", "--overwrite", f"--workdir={tmp_path / 'a'}"),
    ]
    assert (step.config.ipc, step.config.evaluate.epochs) == (5, 2)
    assert step.config.evaluate.students == ("teacher", "conv3")


def test_a_teacher_is_trained_once_and_images_are_scored_once(tmp_path):
    digits = "configs/digits.py:smoke"
    steps = plan(
        of(
            Point("first", digits),
            Point("same", digits, {"synthesis.early_late": False, "select.mode": "top"}),
            Point("crops", f"{digits},method=rded"),
            Point("other_statistics", digits, {"select.statistics": "imagenet"}),
            Point("other_teacher", digits, {"teacher.arch": "conv4"}),
            Point("other_teacher_again", digits, {"teacher.arch": "conv4"}),
            Point("other_data", digits, {"data.images_per_class": 20}),
        ),
        tmp_path,
    )
    assert [shared(step) for step in steps] == [
        (None, None),
        (1, 1),
        (1, None),
        (1, None),
        (None, None),
        (5, 5),
        (None, None),
    ]
    assert steps[1].arguments[-3:] == (
        f"--config.teacher.weights={tmp_path / 'first' / 'teacher'}",
        f"--config.select.ranking={tmp_path / 'first' / 'ranking.csv'}",
        f"--workdir={tmp_path / 'same'}",
    )
    assert steps[1].config.teacher.weights == str(tmp_path / "first" / "teacher")


def test_a_method_of_a_point_follows_the_options_of_the_sweep(tmp_path):
    points = (
        Point("argument", "configs/imagenette.py:ipc=10,method=rded", {"select.mode": "min"}),
        Point("option", "configs/imagenette.py:ipc=10", {"method": "rded", "select.mode": "min"}),
    )
    for step in plan(of(*points), tmp_path, ["--config.ipc=100"]):
        config = step.config
        assert (config.method, config.ipc, config.select.images_per_class) == ("rded", 100, 400)
        assert (config.select.mode, config.method_changes) == ("min", ("select.mode=min",))


def test_weights_that_are_given_stay(tmp_path):
    weights = {"teacher.weights": "here.safetensors"}
    first, second = plan(
        of(Point("a", "configs/digits.py", weights), Point("b", "configs/digits.py", weights)),
        tmp_path,
    )
    assert (shared(first), shared(second)) == ((None, None), (None, 1))
    assert second.config.teacher.weights == "here.safetensors"


def test_a_ranking_that_is_given_is_its_point_s_alone(tmp_path):
    given = {"select.ranking": "other/ranking.csv"}
    steps = plan(
        of(
            Point("a", "configs/digits.py", given),
            Point("b", "configs/digits.py"),
            Point("c", "configs/digits.py"),
        ),
        tmp_path,
    )
    assert [shared(step) for step in steps] == [(None, None), (1, None), (1, 2)]
    assert steps[0].config.select.ranking == "other/ranking.csv"


def test_a_wrong_config_names_its_point(tmp_path):
    with pytest.raises(InputError, match=r"point a: .*got 'ipx', expected ipc"):
        plan(of(Point("a", "configs/digits.py:ipx=5")), tmp_path)
    with pytest.raises(
        InputError, match=r"point a: sinthesis\.flip: no such option; is it synthesis\.flip\?"
    ):
        plan(of(Point("a", "configs/digits.py", {"sinthesis.flip": 1.0})), tmp_path)
    with pytest.raises(
        InputError, match=r"point a: --config: got .*nowhere\.py., which cannot be read"
    ):
        plan(of(Point("a", "configs/nowhere.py")), tmp_path)


def test_a_point_is_done_when_its_report_is_of_this_config(tmp_path):
    first = fabricated.make_steps(tmp_path)[0]
    assert not first.is_done
    fabricated.finish(first)
    assert first.is_done
    longer = plan(fabricated.make_sweep(), tmp_path, ["--config.evaluate.epochs=7"])[0]
    assert not longer.is_done
    record = first.workdir.stages / "report.json"
    first.workdir.write_json(record, {"inputs": {}, "seconds": None})
    assert not first.is_done
    fabricated.finish(first)
    os.utime(first.workdir.results_json, (0, 0))  # begun again since
    assert not first.is_done


def test_what_a_point_waits_for_is_named(tmp_path):
    first, second, _ = fabricated.make_steps(tmp_path)
    assert first.missing == ""
    assert second.missing == "the teacher of point 1 (delt), which is not done"
    fabricated.finish(first)
    assert second.missing == ""
    (first.workdir.stages / "select.json").unlink()
    assert second.missing == "the ranking of point 1 (delt), which is not done"
    shutil.rmtree(first.workdir.stages)
    assert second.missing == "the teacher of point 1 (delt), which is not done"
