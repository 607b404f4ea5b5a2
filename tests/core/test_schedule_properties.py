"""EarlyLate's arithmetic for any schedule, against a count of slots and iterations one by one."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from delt_jax.core import schedule as sched
from delt_jax.core.schedule import ClassBatch, Schedule

EXACT = settings(deadline=None, derandomize=True, max_examples=200)


@dataclasses.dataclass(frozen=True)
class Case:
    """A schedule of some classes, cut into class batches."""

    schedule: Schedule
    classes: int
    batch_size: int
    layout: str
    rounds_of_class: np.ndarray
    batches: list[ClassBatch]

    def join(self, label: int, rank: int) -> int:
        """The round at which an image joins where no round is left out: dealt round by round."""
        rounds = int(self.rounds_of_class[label])
        if not (self.schedule.early_late or self.schedule.random_rounds):
            return 0
        whole, rest = divmod(self.schedule.ipc, rounds)
        for r in range(rounds):
            rank -= whole + (1 if r < rest else 0)
            if rank < 0:
                return r
        raise AssertionError("an image was not dealt")


@st.composite
def cases(draw, least_rounds=0, most_rounds=9, most_ipc=40, layouts=sched.LAYOUTS):
    rounds = draw(st.integers(least_rounds, most_rounds))
    round_iterations = draw(st.integers(1, 5))
    iterations = rounds * round_iterations
    schedule = Schedule(
        ipc=draw(st.integers(1, most_ipc)),
        iterations=iterations,
        round_iterations=round_iterations,
        early_late=draw(st.booleans()),
        min_iterations=draw(st.integers(0, iterations)),
    )
    classes = draw(st.integers(1, 8))
    batch_size = draw(st.integers(1, 60))
    layout = draw(st.sampled_from(layouts))
    rounds_of_class = sched.class_rounds(schedule, classes, [draw(st.integers(0, 99))])
    batches = sched.class_batches(schedule, classes, batch_size, rounds_of_class, layout)
    return Case(schedule, classes, batch_size, layout, rounds_of_class, batches)


@EXACT
@given(st.integers(1, 500), st.integers(1, 60))
def test_a_class_is_dealt_evenly_and_the_first_rounds_get_one_more(ipc, rounds):
    joins = sched.deal(ipc, rounds)
    counts = np.bincount(joins, minlength=rounds)
    assert len(joins) == counts.sum() == ipc and len(counts) == rounds
    assert joins == sorted(joins)
    assert counts.max() - counts.min() <= 1
    assert (np.diff(counts) <= 0).all()


@EXACT
@given(cases())
def test_every_slot_is_in_one_class_batch_once(case):
    ipc = case.schedule.ipc
    slots = np.concatenate([batch.slots for batch in case.batches])
    np.testing.assert_array_equal(np.sort(slots), np.arange(case.classes * ipc))
    for batch in case.batches:
        assert 1 <= len(batch.slots) <= case.batch_size
        np.testing.assert_array_equal(batch.labels * ipc + batch.ranks, batch.slots)
        if case.layout == "class":
            assert np.ptp(batch.slots) == len(batch.slots) - 1
        else:
            assert len(set(batch.ranks.tolist())) == 1
            assert len(set(batch.labels.tolist())) == len(batch.labels)


@EXACT
@given(cases(least_rounds=1))
def test_masks_grow_and_are_the_prefix(case):
    for batch in case.batches:
        rounds, n = range(batch.rounds), len(batch.slots)
        prefixes = [batch.prefix(r) for r in rounds]
        assert prefixes == sorted(prefixes) and prefixes[0] >= 1
        assert (np.diff(batch.join) >= 0).all()
        for r in rounds:
            active = batch.active(r)
            assert active.any(), "a round in which there is nothing to do"
            assert not active[prefixes[r] :].any(), "an active slot outside of the prefix"
            if not case.schedule.random_rounds:
                np.testing.assert_array_equal(active, np.arange(n) < prefixes[r])
        if not case.schedule.random_rounds:
            assert prefixes[-1] == n, "a slot that never joins"
        # Once it has joined, a slot is active round after round, until it leaves for good.
        changes = np.diff(np.stack([batch.active(r) for r in rounds]).astype(int), axis=0)
        assert ((changes != 0).sum(axis=0) <= 2).all()


@EXACT
@given(cases())
def test_image_iterations_are_those_of_a_count_one_by_one(case):
    ri, total = case.schedule.round_iterations, 0
    for batch in case.batches:
        done = 0
        for label, rank in zip(batch.labels.tolist(), batch.ranks.tolist()):
            if not case.schedule.iterations:
                continue
            join = case.join(label, rank)
            last = int(case.rounds_of_class[label]) * ri
            done += sum(join <= t // ri for t in range(last))
        assert batch.image_iterations == done
        masks = [batch.active(t // ri).sum() for t in range(batch.iterations)]
        assert sum(masks) == done
        total += done
    constant = sched.constant_image_iterations(case.schedule, case.classes)
    assert total <= constant == case.classes * case.schedule.ipc * case.schedule.iterations
    if not (case.schedule.early_late or case.schedule.random_rounds):
        assert total == constant


@EXACT
@given(cases(least_rounds=1))
def test_no_image_joins_before_one_that_ranks_higher(case):
    for batch in case.batches:
        for label in set(batch.labels.tolist()):
            own = batch.labels == label
            assert (np.diff(batch.join[own][np.argsort(batch.ranks[own])]) >= 0).all()


@EXACT
@given(cases())
def test_a_class_has_its_rounds_within_the_limits(case):
    schedule = case.schedule
    assert case.rounds_of_class.shape == (case.classes,)
    least = max(schedule.min_iterations // schedule.round_iterations, 1)
    if schedule.random_rounds:
        assert ((least <= case.rounds_of_class) & (case.rounds_of_class <= schedule.rounds)).all()
    else:
        assert (case.rounds_of_class == schedule.rounds).all()
    for batch in case.batches:
        of_slot = case.rounds_of_class[batch.labels]
        assert batch.rounds <= of_slot.max()
        assert (batch.leave - batch.join <= of_slot).all()
        assert (batch.leave <= batch.rounds).all()


@EXACT
@given(
    st.integers(1, 300),
    st.sampled_from(sched.CURRICULA),
    st.just(0.0) | st.floats(1e-6, 1),
    st.floats(0.01, 1),
    st.floats(1e-3, 10),
)
def test_learning_rates_and_crops_stay_in_their_limits_and_never_rise(
    iterations, curriculum, milestone, smallest, peak
):
    rates = sched.learning_rates(peak, iterations)
    crops = sched.min_crop_scales(curriculum, milestone, iterations, smallest)
    assert rates.shape == crops.shape == (iterations,)
    assert rates[0] == peak and (rates > 0).all() and (np.diff(rates) < 0).all()
    assert (crops >= smallest - 1e-12).all() and (crops <= 1 + 1e-12).all()
    assert (np.diff(crops) <= 0).all()
    assert (crops[int(np.ceil(milestone * iterations)) :] == smallest).all()
