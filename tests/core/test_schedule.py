"""EarlyLate's arithmetic against the published counts, and its invariants."""

import numpy as np
import pytest

from delt_jax.core import schedule as sched
from delt_jax.core.schedule import Schedule
from delt_jax.errors import InputError

PAPER = {"iterations": 4000, "round_iterations": 500}


@pytest.mark.parametrize(
    ("ipc", "counts"),
    [
        (10, [2, 2, 1, 1, 1, 1, 1, 1]),
        (50, [7, 7, 6, 6, 6, 6, 6, 6]),
        (100, [13, 13, 13, 13, 12, 12, 12, 12]),
        (5, [1, 1, 1, 1, 1, 0, 0, 0]),
    ],
)
def test_deal_gives_the_first_rounds_one_more(ipc, counts):
    assert np.bincount(sched.deal(ipc, 8), minlength=8).tolist() == counts


@pytest.mark.parametrize(("ipc", "share"), [(50, 0.5775), (10, 0.6375), (100, 0.5725)])
def test_image_iterations_are_the_published_share(ipc, share):
    schedule = Schedule(ipc, **PAPER)
    done = sum(batch.image_iterations for batch in sched.class_batches(schedule, 10, 100))
    constant = sched.constant_image_iterations(schedule, 10)
    assert done / constant == share
    assert sched.saved_share(done, constant) == pytest.approx(1 - share)


def test_groups_join_at_the_published_learning_rates():
    rates = sched.learning_rates(0.25, 4000)[::500]
    expected = [0.2500, 0.2405, 0.2134, 0.1728, 0.1250, 0.0772, 0.0366, 0.0095]
    np.testing.assert_allclose(rates, expected, atol=5e-5)


def test_curricula_have_the_published_values():
    cosine = sched.min_crop_scales("cosine", 1.0, 8)
    np.testing.assert_allclose(cosine[[0, 4]], [1.0, 0.54])
    linear = sched.min_crop_scales("linear", 0.5, 8)
    np.testing.assert_allclose(linear, [1.0, 0.77, 0.54, 0.31, 0.08, 0.08, 0.08, 0.08])
    np.testing.assert_allclose(sched.min_crop_scales("step", 0.25, 4), [1.0, 0.08, 0.08, 0.08])
    np.testing.assert_allclose(sched.min_crop_scales("cosine", 0.0, 3), 0.08)


def test_a_batch_that_holds_the_late_part_of_a_class_drops_its_empty_rounds():
    # IPC 200 in batches of 100: ranks 100..199 join in rounds 4..7 of 8.
    early, late = sched.class_batches(Schedule(200, **PAPER), 1, 100)
    assert (early.rounds, early.iterations) == (8, 4000)
    assert (late.rounds, late.iterations) == (4, 2000)
    assert late.join.min() == 0 and [late.prefix(r) for r in range(4)] == [25, 50, 75, 100]


def test_constant_iterations_keep_every_slot_active():
    schedule = Schedule(10, **PAPER, early_late=False)
    (batch,) = sched.class_batches(schedule, 10, 100)
    assert batch.prefix(0) == 100 and batch.image_iterations == 400_000


def test_random_rounds_stay_in_range_and_repeat_for_a_seed():
    schedule = Schedule(10, **PAPER, min_iterations=2000)
    rounds = sched.class_rounds(schedule, 1000, [0])
    assert set(rounds) == {4, 5, 6, 7, 8}
    np.testing.assert_array_equal(rounds, sched.class_rounds(schedule, 1000, [0]))


@pytest.mark.parametrize("seed", range(30))
def test_every_schedule_deals_each_slot_once_and_counts_what_its_masks_say(seed):
    random = np.random.default_rng(seed)
    rounds, ri = random.integers(1, 9), random.integers(1, 6)
    schedule = Schedule(
        ipc=int(random.integers(1, 25)),
        iterations=int(rounds * ri),
        round_iterations=int(ri),
        early_late=bool(random.integers(2)),
        min_iterations=int(random.choice([0, ri, rounds * ri])),
    )
    k, size = int(random.integers(1, 7)), int(random.integers(1, 40))
    rounds_of_class = sched.class_rounds(schedule, k, [seed])
    layout = str(random.choice(sched.LAYOUTS))
    batches = sched.class_batches(schedule, k, size, rounds_of_class, layout)
    slots = np.concatenate([batch.slots for batch in batches])
    np.testing.assert_array_equal(np.sort(slots), np.arange(k * schedule.ipc))
    for batch in batches:
        assert len(batch.slots) <= size and batch.rounds >= 1
        np.testing.assert_array_equal(batch.labels * schedule.ipc + batch.ranks, batch.slots)
        masks = np.array([batch.active(r) for r in range(batch.rounds)])
        assert masks.any(axis=1).all(), "an empty round was kept"
        assert masks.sum() * schedule.round_iterations == batch.image_iterations
        for r, mask in enumerate(masks):
            assert not mask[batch.prefix(r) :].any(), "an active slot outside the prefix"
        joined = np.array(
            [np.arange(len(batch.join)) < batch.prefix(r) for r in range(batch.rounds)]
        )
        assert (joined[1:] >= joined[:-1]).all(), "a slot un-joined"
        if not schedule.random_rounds:
            np.testing.assert_array_equal(masks, joined)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 10, "round_iterations": 3}, "round_iterations: got 3.*iterations = 10"),
        ({"iterations": 10, "round_iterations": 0}, "round_iterations: got 0"),
        ({"iterations": 10, "round_iterations": 5, "min_iterations": 11}, "min_iterations: got 11"),
    ],
)
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Schedule(10, **options)


def test_unknown_curriculum_is_refused():
    with pytest.raises(InputError, match=r"'sine'.*cosine, linear, step"):
        sched.min_crop_scales("sine", 1.0, 10)


def test_no_iterations_leave_every_image_as_it_is():
    schedule = Schedule(ipc=3, iterations=0, round_iterations=500)
    batches = sched.class_batches(schedule, 4, 5)
    assert [len(batch.slots) for batch in batches] == [5, 5, 2]
    assert np.concatenate([batch.slots for batch in batches]).tolist() == list(range(12))
    for batch in batches:
        assert (batch.rounds, batch.iterations, batch.image_iterations) == (0, 0, 0)
        assert batch.join.tolist() == batch.leave.tolist() == [0] * len(batch.slots)
    assert sched.constant_image_iterations(schedule, 4) == 0
    with pytest.raises(InputError, match="iterations: got -1, expected at least 0"):
        Schedule(ipc=3, iterations=-1, round_iterations=500)


def test_across_classes_a_batch_holds_one_image_of_each():
    plan = Schedule(ipc=3, iterations=8, round_iterations=4, early_late=False)
    batches = sched.class_batches(plan, 5, 4, layout="across")
    assert [batch.labels.tolist() for batch in batches] == [[0, 1, 2, 3], [4]] * 3
    assert [set(batch.ranks.tolist()) for batch in batches] == [{0}, {0}, {1}, {1}, {2}, {2}]
    assert sorted(np.concatenate([batch.slots for batch in batches])) == list(range(15))
    assert sum(batch.image_iterations for batch in batches) == 15 * 8


def test_an_unknown_layout_is_refused():
    plan = Schedule(ipc=3, iterations=8, round_iterations=4)
    with pytest.raises(InputError, match="layout: got 'ranks', expected one of class, across"):
        sched.class_batches(plan, 5, 4, layout="ranks")
