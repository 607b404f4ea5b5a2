"""Packs of any schedule: every class batch once, and the work that its masks promise."""

import functools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schedule_properties import cases

from delt_jax.core import packing, rounds
from delt_jax.core.packing import Pack
from delt_jax.core.synthesis import State

EXACT = settings(deadline=None, derandomize=True, max_examples=100)


@st.composite
def packed(draw, **of_case):
    """Class batches, the devices, and the packs of them."""
    case = draw(cases(least_rounds=1, **of_case))
    devices, per_device = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    return case.batches, devices, packing.make_packs(case.batches, devices * per_device, devices)


def active_one_by_one(pack: Pack, t: int) -> int:
    """Slots of all class batches that are optimised in iteration `t`."""
    return sum(int(batch.active(t // batch.round_iterations).sum()) for batch in pack.batches)


@EXACT
@given(packed(), st.integers(1, 4), st.integers(1, 5))
def test_packs_hold_every_class_batch_once(found, devices, per_device):
    batches, _, _ = found
    width = devices * per_device
    numbers = [7 * number + 3 for number in range(len(batches))]
    packs = packing.make_packs(batches, width, devices, numbers)
    held = [pair for pack in packs for pair in zip(pack.indices, pack.batches, strict=True)]
    assert sorted(number for number, _ in held) == numbers
    for number, batch in held:
        assert batch is batches[(number - 3) // 7]
    for pack in packs:
        assert {batch.rounds for batch in pack.batches} == {pack.rounds}
        rows, size = pack.labels.shape
        assert pack.join.shape == pack.leave.shape == (rows, size)
        assert rows % devices == 0 and 1 <= len(pack.batches) <= rows <= width


@EXACT
@given(packed(), st.integers(1, 4), st.integers(1, 5))
def test_packs_of_as_many_rounds_are_even(found, devices, per_device):
    batches, _, _ = found
    width = devices * per_device
    packs = packing.make_packs(batches, width, devices)
    for many in {batch.rounds for batch in batches}:
        group = [pack for pack in packs if pack.rounds == many]
        count = sum(batch.rounds == many for batch in batches)
        assert len(group) == -(-count // width), "as few packs as there can be"
        (shape,) = {pack.labels.shape for pack in group}
        fewest = -(-count // len(group))
        assert shape[0] == -(-fewest // devices) * devices, "as narrow as they can be"
        assert all(len(pack.batches) == shape[0] for pack in group[:-1])
        assert shape[1] == max(len(batch.slots) for batch in batches if batch.rounds == many)


@settings(EXACT, max_examples=40)
@given(packed(), st.data())
def test_the_masks_of_a_pack_are_those_of_its_class_batches(found, data):
    for pack in found[2][:3]:
        total = pack.labels.shape[1]
        r = data.draw(st.integers(0, pack.rounds - 1))
        n = pack.prefix(r)
        whole, prefix = pack.slots(r, total), pack.slots(r, n)
        active = np.asarray(whole.active)
        assert active.sum() == pack.active_count(r)
        for row, batch in enumerate(pack.batches):
            own = len(batch.slots)
            np.testing.assert_array_equal(active[row, :own], batch.active(r))
            np.testing.assert_array_equal(pack.labels[row, :own], batch.labels)
            assert not active[row, own:].any(), "padding takes part"
        assert not active[len(pack.batches) :].any(), "an empty class batch takes part"
        # Beyond the prefix there is nothing to do, and within it the masks are the same.
        assert not active[:, n:].any() and not np.asarray(whole.joined)[:, n:].any()
        for sliced, masked in zip(prefix, whole, strict=True):
            np.testing.assert_array_equal(np.asarray(sliced), np.asarray(masked)[:, :n])


@EXACT
@given(packed(), st.data())
def test_image_iterations_of_a_pack_are_those_of_a_count_one_by_one(found, data):
    batches, _, packs = found
    for pack in packs:
        t = data.draw(st.integers(0, pack.iterations))
        assert pack.image_iterations(t) == sum(active_one_by_one(pack, i) for i in range(t))
    done = sum(pack.image_iterations(pack.iterations) for pack in packs)
    assert done == sum(batch.image_iterations for batch in batches)


@EXACT
@given(packed())
def test_images_come_back_from_a_pack_as_they_went_in(found):
    for pack in found[2]:
        images = [batch.slots.reshape(-1, 1, 1, 1) + 1.5 for batch in pack.batches]
        stacked = pack.stack(images)
        assert stacked.shape == (*pack.labels.shape, 1, 1, 1)
        for one, other in zip(pack.split(stacked), images, strict=True):
            np.testing.assert_array_equal(one, other)
        assert stacked.sum() == sum(one.sum() for one in images)


class Counter:
    """Stands in for a `rounds.Program`: a step adds 1 to the pixel of each active slot."""

    def __init__(self, steps_per_call):
        self.steps_per_call, self.calls = steps_per_call, []

    def place(self, variables):
        return variables

    def __call__(self, variables, state, slots, keys, t, rates, crops, ahead=None):
        np.testing.assert_array_equal(rates, np.arange(t, t + len(rates)))
        assert state.images.shape[:2] == slots.active.shape
        self.calls.append((t, len(rates)))
        moved = np.asarray(slots.active)[:, :, None, None, None] * len(rates)
        return State(*(np.asarray(leaf) + moved for leaf in state)), {"loss": rates}


@settings(EXACT, max_examples=25)
@given(packed(most_rounds=4, most_ipc=6), st.integers(1, 7), st.booleans(), st.data())
def test_each_slot_is_optimised_as_often_as_promised_wherever_the_run_goes_on(
    found, steps_per_call, sliced, data
):
    pack = found[2][0]
    start = State(*(np.zeros((*pack.labels.shape, 1, 1, 1), np.int32) for _ in State._fields))
    times = np.arange(pack.iterations)
    keys, program = np.zeros(len(pack.labels)), Counter(steps_per_call)
    run = functools.partial(
        rounds.optimise, program, {}, pack, keys=keys, learning_rates=times, min_crops=times
    )
    stop, state, first = data.draw(st.integers(0, pack.iterations)), start, 0
    for chunk in run(state=start, sliced=sliced):  # which is given up, as by a kill
        if chunk.next > stop:
            break
        state, first = chunk.state(), chunk.next
    program.calls.clear()
    for chunk in run(state=state, first=first, sliced=not sliced):
        state = chunk.state()
    done = [t for begin, count in program.calls for t in range(begin, begin + count)]
    assert done == list(range(first, pack.iterations)), "an iteration left out, or done twice"
    expected = (pack.leave - pack.join) * pack.round_iterations
    np.testing.assert_array_equal(np.asarray(state.images)[..., 0, 0, 0], expected)
