"""What schedule.json says of unequal class batches: every pace is over the batches that ran it."""

import types

import pytest

from delt_jax.report.results import summarise
from delt_jax.runtime.command_line import resolve_config
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.finished_batches import FinishedBatches, SynthesizeResult
from delt_jax.stages.planning import make_plan


def schedule_of(folder, *options, seconds=1.0):
    """schedule.json of a run in which every iteration of a class batch took `seconds`."""
    flags = [f"--config.{option}" for option in options]
    config = resolve_config(["--config=configs/digits.py", *flags])
    plan = make_plan(config, 10)
    entries = [
        {
            "seconds_by_round": [seconds * batch.round_iterations] * batch.rounds,
            "seconds_compile": 0.0,
        }
        for batch in plan.batches
    ]
    workdir = WorkDir(folder)
    finished = FinishedBatches(config, workdir, None, None)  # pyright: ignore[reportArgumentType]
    finished._write_schedule(entries, plan, SynthesizeResult(1, 1, 1, 1.0))
    return plan, workdir.read_json(workdir.schedule_json)


def cost_of(schedule, tmp_path):
    record = types.SimpleNamespace(
        config={}, evaluations=(), images=(), continual=(), diversity={}, fairness={}, manifest={}
    )
    record.teacher, record.schedule, record.stage_seconds = {}, schedule, {}
    return summarise(record, WorkDir(tmp_path))["cost"]  # pyright: ignore[reportArgumentType]


def test_a_round_is_over_the_class_batches_that_have_it(tmp_path):
    drawn = ("synthesis.min_iterations=50", "synthesis.class_batch=10")
    plan, schedule = schedule_of(tmp_path, *drawn)
    rounds = [batch.rounds for batch in plan.batches]
    assert rounds == [4, 6, 6, 4, 7, 1, 5, 6, 1, 2]
    assert schedule["seconds_per_iteration_by_round"] == pytest.approx([1.0] * 7)
    assert schedule["class_batches_per_round"] == [10, 8, 7, 7, 5, 4, 1]
    assert schedule["active_per_round"][-1] == 10.0
    assert len(schedule["active_per_round"]) == len(schedule["learning_rate"]) // 50 == 7
    # 42 of 10 * 7 rounds of class batches ran, all at one pace.
    assert cost_of(schedule, tmp_path)["seconds_saved_fraction"] == pytest.approx(1 - 42 / 70)


def test_class_batches_that_hold_a_part_of_a_class_are_unequal_too(tmp_path):
    plan, schedule = schedule_of(tmp_path, "ipc=16", "synthesis.class_batch=8")
    assert len({batch.rounds for batch in plan.batches}) == 2  # ranks 8 to 15 join in round 4
    assert schedule["seconds_per_iteration_by_round"] == pytest.approx(
        [1.0] * max(batch.rounds for batch in plan.batches)
    )


def test_equal_class_batches_are_as_they_were(tmp_path):
    plan, schedule = schedule_of(tmp_path, "synthesis.class_batch=10")
    assert schedule["class_batches_per_round"] == [10] * plan.schedule.rounds
    assert schedule["active_per_round"] == [
        plan.batches[0].prefix(r) for r in range(plan.schedule.rounds)
    ]


def test_results_say_whether_the_run_was_deterministic(tmp_path):
    record = types.SimpleNamespace(
        evaluations=(), images=(), continual=(), diversity={}, fairness={}, manifest={}
    )
    record.teacher, record.schedule, record.stage_seconds = {}, {}, {}
    for config, expected in (({"deterministic": True}, True), ({}, False)):
        record.config = config
        found = summarise(record, WorkDir(tmp_path))  # pyright: ignore[reportArgumentType]
        assert found["deterministic"] is expected
