"""The arrangements of synthesis against one another, and the step's promises."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import drawn_variables

from delt_jax.core import packing, rounds, synthesis
from delt_jax.core import schedule as sched
from delt_jax.core.schedule import Schedule
from delt_jax.core.synthesis import Adam, Slots, State
from delt_jax.models.convnet import ConvNet
from delt_jax.runtime.mesh import device_mesh
from delt_jax.stages import matching

ROOT = pathlib.Path(__file__).parents[2]
SIZE, CLASSES, IPC, BATCH = 8, 4, 3, 6  # two class batches of two classes
MEAN, STD = 0.4, 0.25
SCHEDULE = Schedule(ipc=IPC, iterations=6, round_iterations=2)


@pytest.fixture
def teacher(x64):
    module = ConvNet(depth=2, num_classes=CLASSES, width=4)
    return module, drawn_variables(module, SIZE, seed=5)


def make_method(teacher, per_image=False, **changes):
    module, variables = teacher
    method = synthesis.Method(
        forward=matching.matching_forward(module),
        objective=matching.matching_objective(module, SIZE, variables, 0.05, 10.0),
        draw_view=synthesis.view_drawer(SIZE, 1.0, 0.5, jitter=1, per_image=per_image),
        low=(-MEAN / STD,) * 3,
        high=((1 - MEAN) / STD,) * 3,
    )
    return dataclasses.replace(method, **changes)


def run(
    teacher,
    schedule=SCHEDULE,
    class_rounds=None,
    width=1,
    mesh=None,
    steps_per_call=1,
    sliced=True,
    batch=BATCH,
    classes=CLASSES,
    stop=None,
    resume=None,
    **method,
):
    """Synthesises all class batches; returns images [n, h, w, c] (and the state where `stop`)."""
    pixels = np.random.default_rng(0).uniform(0, 1, (classes * schedule.ipc, SIZE, SIZE, 3))
    images = (pixels - MEAN) / STD
    batches = sched.class_batches(schedule, classes, batch, class_rounds)
    devices = mesh.size if mesh else 1
    program = rounds.Program(make_method(teacher, **method), mesh, steps_per_call)
    for pack in packing.make_packs(batches, width, devices):
        rates = sched.learning_rates(0.1, pack.iterations)
        crops = sched.min_crop_scales("cosine", 1.0, pack.iterations)
        state = synthesis.initial_state(pack.stack([images[b.slots] for b in pack.batches]))
        first = 0
        if resume is not None:
            first, state = resume
        keys = pack.keys(jax.random.key(7))
        for chunk in rounds.optimise(
            program, teacher[1], pack, state, keys, rates, crops, first, sliced
        ):
            final = chunk.state()
            if chunk.next == stop:
                return chunk.next, jax.tree.map(jnp.array, final)
        for own, done in zip(pack.batches, pack.split(np.asarray(final.images)), strict=True):
            images[own.slots] = done
    return images


IMAGE_VIEWS = pytest.param(True, marks=pytest.mark.slow, id="image_views")


@pytest.mark.parametrize("per_image", [pytest.param(False, id="batch_view"), IMAGE_VIEWS])
def test_masked_full_buffer_equals_sliced_prefix(teacher, per_image):
    sliced = run(teacher, per_image=per_image)
    masked = run(teacher, per_image=per_image, sliced=False)
    np.testing.assert_allclose(masked, sliced, rtol=0, atol=1e-10)


def test_packed_equals_one_by_one(teacher):
    np.testing.assert_allclose(run(teacher, width=2), run(teacher), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_a_pack_padded_with_ragged_and_empty_batches_equals_one_by_one(teacher):
    alone = run(teacher, batch=5)  # class batches of 5, 5 and 2 slots that cut classes in two
    np.testing.assert_allclose(run(teacher, batch=5, width=4), alone, rtol=0, atol=1e-10)


@pytest.mark.four_devices
def test_one_device_equals_several(teacher):
    mesh = device_mesh(rounds.CLASS_BATCHES)
    several = run(teacher, batch=3, width=mesh.size, mesh=mesh)
    np.testing.assert_allclose(several, run(teacher, batch=3), rtol=0, atol=1e-10)


def test_many_steps_a_call_equal_one(teacher):
    np.testing.assert_allclose(run(teacher, steps_per_call=4), run(teacher), rtol=0, atol=1e-10)


def test_jit_equals_eager(teacher):
    method, key = make_method(teacher), jax.random.key(3)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, SIZE, SIZE, 3)))
    slots = Slots(
        jnp.asarray([0, 1, 2]),
        jnp.asarray([True, True, False]),
        jnp.asarray([True, True, False]),
        jnp.asarray([0, 0, 2]),
    )

    def one(state):
        view = method.draw_view(key, jnp.int32(1), jnp.asarray(0.3), 3)
        return synthesis.step(
            method, teacher[1], state, slots, jnp.int32(1), jnp.asarray(0.1), view
        )

    state = synthesis.initial_state(images)
    eager, jitted = one(state), jax.jit(one)(state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), eager, jitted)


def test_the_same_seed_gives_the_same_bits(teacher):
    np.testing.assert_array_equal(run(teacher), run(teacher))


@pytest.mark.parametrize("stop", [2, 3])
def test_a_resumed_run_gives_the_same_bits(teacher, stop):
    one_batch = {"classes": 2}
    middle = run(teacher, stop=stop, **one_batch)
    np.testing.assert_array_equal(
        run(teacher, resume=middle, **one_batch), run(teacher, **one_batch)
    )


def test_slots_that_have_not_joined_are_bitwise_untouched_and_others_in_range(teacher):
    start = np.random.default_rng(0).uniform(0, 1, (CLASSES * IPC, SIZE, SIZE, 3))
    start = (start - MEAN) / STD
    _, state = run(teacher, stop=4, sliced=False, classes=2)  # two of three rounds
    (batch,) = sched.class_batches(SCHEDULE, 2, BATCH)
    waiting = batch.join == 2
    images = np.asarray(state.images[0])
    np.testing.assert_array_equal(images[waiting], start[batch.slots][waiting])
    assert not np.asarray(state.second[0])[waiting].any()
    moved = images[~waiting]
    assert (moved != start[batch.slots][~waiting]).any(axis=(1, 2, 3)).all()
    assert moved.min() >= -MEAN / STD and moved.max() <= (1 - MEAN) / STD


def first_step_of_a_late_joiner(fresh):
    """Pixels that a slot with a constant gradient of 1 moves in its first step, at t = 500."""
    method = synthesis.Method(
        forward=lambda variables, images: (images, {}),
        objective=lambda logits, moments, labels, weights: (jnp.sum(logits), {}),
        draw_view=synthesis.view_drawer(4, 1.0, 0.0, 0, False),
        low=(-100.0,) * 3,
        high=(100.0,) * 3,
        adam=Adam(fresh_bias_correction=fresh),
    )
    slots = Slots(jnp.zeros(1, jnp.int32), jnp.ones(1, bool), jnp.ones(1, bool), jnp.full(1, 500))
    view = method.draw_view(jax.random.key(0), jnp.int32(500), jnp.asarray(1.0), 1)
    state = synthesis.initial_state(jnp.zeros((1, 4, 4, 3)))
    state, _ = synthesis.step(method, None, state, slots, jnp.int32(500), jnp.asarray(0.01), view)
    return -np.asarray(state.images)


def test_a_late_joiner_begins_with_1_58_learning_rates_as_published(x64):
    np.testing.assert_allclose(first_step_of_a_late_joiner(False), 0.01 * 0.5 / 0.1**0.5, rtol=1e-6)


def test_fresh_bias_correction_begins_with_one_learning_rate(x64):
    np.testing.assert_allclose(first_step_of_a_late_joiner(True), 0.01, rtol=1e-6)


def test_images_of_a_class_that_is_done_drift_as_published_or_freeze(teacher):
    schedule = dataclasses.replace(SCHEDULE, min_iterations=2)
    class_rounds = np.array([3, 1])  # the second class leaves after one round of three
    options = {"schedule": schedule, "class_rounds": class_rounds, "classes": 2}
    _, after_one = run(teacher, stop=2, **options)
    (batch,) = sched.class_batches(schedule, 2, BATCH, class_rounds)
    left = batch.leave == 1
    before = np.asarray(after_one.images[0])[left]
    frozen = run(teacher, departed_drift=False, **options)[batch.slots][left]
    drifted = run(teacher, departed_drift=True, **options)[batch.slots][left]
    np.testing.assert_array_equal(frozen, before)
    assert (drifted != before).any(axis=(1, 2, 3)).all()


def test_packs_hold_every_class_batch_once_and_are_even():
    batches = sched.class_batches(Schedule(10, 8, 2), 30, 30)
    packs = packing.make_packs(batches, width=4)
    assert sorted(index for pack in packs for index in pack.indices) == list(range(10))
    assert [len(pack.labels) for pack in packs] == [4, 4, 4]
    assert sum(len(pack.batches) for pack in packs) == 10
    done = sum(
        pack.active_count(r) * pack.round_iterations for pack in packs for r in range(pack.rounds)
    )
    assert done == sum(batch.image_iterations for batch in batches)


@pytest.mark.four_devices
def test_the_loop_over_devices_has_no_collective(teacher):
    mesh = device_mesh(rounds.CLASS_BATCHES)
    method = make_method(teacher)
    program = rounds.Program(method, mesh, steps_per_call=2)
    schedule = Schedule(ipc=IPC, iterations=2, round_iterations=2)
    batches = sched.class_batches(schedule, CLASSES, IPC)
    (pack,) = packing.make_packs(batches, len(batches), mesh.size)
    images = pack.stack([np.zeros((IPC, SIZE, SIZE, 3))] * len(batches))
    chunks = rounds.optimise(
        program,
        teacher[1],
        pack,
        State(*(jnp.asarray(images),) * 3),
        pack.keys(jax.random.key(0)),
        np.ones(2),
        np.ones(2),
    )
    next(chunks)
    (executable,) = program.executables().values()
    text = executable.as_text() or ""
    assert "convolution" in text
    for collective in ("all-reduce", "all-gather", "collective-permute", "all-to-all"):
        assert collective not in text


@pytest.mark.slow
def test_eight_devices_equal_one_without_a_collective():
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-p", "no:cacheprovider"]
    command += ["-k", "equals_several or collective and not eight"]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        command, env=environment | flags, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
