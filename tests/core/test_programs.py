"""Training programs from uint8 images on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_network import images_of, tiny

from delt_jax.core import programs, training
from delt_jax.core.augment.views import Statistics, StudentViews, TeacherViews


def student_runs(randaugment_ops=1, compute_dtype=None):
    module, variables = tiny()
    optimizer = training.adamw()
    statistics = Statistics(jnp.array([0.5, 0.4, 0.3]), jnp.array([0.25, 0.2, 0.3]))
    views = StudentViews(randaugment_ops=randaugment_ops, min_scale=0.5)
    program = programs.student_program(
        module.apply, module.apply, optimizer, views, compute_dtype=compute_dtype
    )
    pool, labeller = programs.Pool(images_of(6)), programs.Labeller(variables, statistics)

    def run(steps, key=0):
        state = training.create_state(optimizer, jax.tree.map(jnp.copy, tiny(seed=1)[1]))
        losses = []
        for step in range(steps):
            steps_now = programs.Steps.of([np.arange(6)], step, [0.02])
            state, loss = program(state, pool, steps_now, jax.random.key(key), statistics, labeller)
            losses.append(float(loss[0]))
        return state, losses

    return run


def test_student_program_learns_and_repeats_bit_for_bit():
    run = student_runs()
    state, losses = run(30)
    again, _ = run(30)
    jax.tree.map(np.testing.assert_array_equal, state, again)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert run(1, key=1)[1] != losses[:1]


def test_a_student_in_bfloat16_learns_with_a_state_in_float32():
    state, losses = student_runs(0, jnp.bfloat16)(30)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype(jnp.float32)}
    assert losses != student_runs(0)(30)[1]


def test_steps_are_filled_up_with_the_last():
    steps = programs.Steps.of([np.array([4, 2]), np.array([0, 1])], 7, [0.5, 0.25], at_once=4)
    np.testing.assert_array_equal(steps.order, [[4, 2], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_array_equal(steps.number, [7, 8, 8, 8])
    np.testing.assert_array_equal(steps.learning_rate, [0.5, 0.25, 0.25, 0.25])
    assert steps.count == 2


@pytest.fixture(scope="module")
def colours():
    labels = np.arange(24) % 3
    images = np.zeros((24, 8, 8, 3), np.uint8)
    images[np.arange(24), :, :, labels] = 200
    return programs.Pool(jnp.asarray(images), jnp.asarray(labels))


STATISTICS = Statistics(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))


def steps_of(first, count, at_once, batch=24):
    numbers = np.arange(first, first + at_once)
    order = np.stack([np.random.default_rng(n).permutation(24)[:batch] for n in numbers])
    rates = np.full(at_once, 0.1, np.float32)
    return programs.Steps(order, numbers, rates, np.full(at_once, 0.1, np.float32), count)


def teacher(views, averaged=False, **options):
    module, variables = tiny()
    optimizer = training.nesterov(1e-4)
    variables = jax.tree.map(jnp.copy, variables)
    state = training.create_state(optimizer, variables, averaged=averaged)
    return module, state, programs.teacher_program(module.apply, optimizer, views, **options)


@pytest.mark.parametrize(
    ("views", "dtype"),
    [
        (TeacherViews(8, pad=1), None),
        (TeacherViews(8, pad=1), jnp.bfloat16),
        (TeacherViews(6, "resized", min_scale=0.5, cutmix_probability=0.3), None),
    ],
)
def test_teacher_program_learns_to_tell_colours_apart(views, dtype, colours):
    module, state, program = teacher(views, label_smoothing=0.1, compute_dtype=dtype)
    for step in range(60):
        state, losses = program(state, colours, steps_of(step, 1, 1), jax.random.key(0), STATISTICS)
    assert np.isfinite(losses).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype(jnp.float32)}
    logits = programs.inference_program(module.apply)(state.variables, colours.images, STATISTICS)
    assert (np.argmax(logits, axis=1) == colours.labels).all()


def test_many_steps_a_call_equal_one(colours):
    key, views = jax.random.key(0), TeacherViews(8, pad=1, cutmix_probability=0.5)
    _, many, program = teacher(views, averaged=True)
    many, losses = program(many, colours, steps_of(0, 4, 5, batch=8), key, STATISTICS)
    _, single, program = teacher(views, averaged=True)
    for step in range(4):  # the fifth of the five is not done
        single, loss = program(single, colours, steps_of(step, 1, 1, batch=8), key, STATISTICS)
        np.testing.assert_allclose(losses[step], loss[0], rtol=1e-4)
    assert losses[4] == 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), many, single)
