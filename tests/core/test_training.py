"""Losses, optimisers, schedules and steps of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from delt_jax.core import training
from delt_jax.core.augment.views import Statistics, StudentViews


class Tiny(nn.Module):
    """One convolution, a BatchNorm with torch's running update, a classifier."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(4, (3, 3), dtype=images.dtype)(images)
        x = nn.BatchNorm(not train, momentum=0.9, dtype=images.dtype)(x)
        return nn.Dense(3, dtype=images.dtype)(nn.relu(x).mean((1, 2)))


def tiny(seed=0, dtype=jnp.float32):
    module = Tiny()
    variables = jax.jit(module.init)(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    return module, jax.tree.map(lambda x: x.astype(dtype), variables)


def images_of(count, size=8, seed=5):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_distillation_loss_literal(x64):
    # softmax(log[1, 3]) = [1/4, 3/4] against [1/2, 1/2]: 1/4 log(1/2) + 3/4 log(3/2), and 0.
    teacher = jnp.log(jnp.array([[1.0, 3.0], [1.0, 1.0]]))
    student = jnp.zeros((2, 2))
    expected = (0.25 * np.log(0.5) + 0.75 * np.log(1.5)) / 2
    np.testing.assert_allclose(training.distillation_loss(student, teacher, 1.0), expected, 1e-14)
    # The temperature divides both: logits twice as large at twice the temperature are the same.
    np.testing.assert_allclose(
        training.distillation_loss(2 * student, 2 * teacher, 2.0), expected, 1e-14
    )


def test_distillation_loss_ignores_a_shift_and_is_zero_for_the_teacher(x64):
    teacher, student = jax.random.normal(jax.random.key(0), (2, 5, 7))
    loss = training.distillation_loss(student, teacher, 20.0)
    np.testing.assert_allclose(training.distillation_loss(student + 3, teacher - 5, 20.0), loss)
    assert loss > 0
    assert training.distillation_loss(teacher, teacher, 20.0) == 0


def test_smoothed_cross_entropy_literal(x64):
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1]]))
    labels = jnp.array([0])
    np.testing.assert_allclose(
        training.smoothed_cross_entropy(logits, labels, 0.0), -np.log(0.7), 1e-14
    )
    expected = -0.9 * np.log(0.7) - 0.1 * np.mean(np.log([0.7, 0.2, 0.1]))
    np.testing.assert_allclose(
        training.smoothed_cross_entropy(logits, labels, 0.1), expected, 1e-14
    )


def test_student_learning_rate_ends_at_half():
    rates = [training.student_learning_rate(0.001, epoch, 3) for epoch in range(4)]
    np.testing.assert_allclose(rates, [0.001, 0.0009330127018922195, 0.00075, 0.0005], rtol=1e-14)
    assert training.student_learning_rate(0.001, 3, 3, stretch=1) == pytest.approx(0, abs=1e-18)


def test_warmup_cosine_literals():
    rates = [training.warmup_cosine(0.2, step, 8, 4) for step in range(9)]
    expected = [0.05, 0.1, 0.15, 0.2, 0.2, 0.2 * (2 + 2**0.5) / 4, 0.1, 0.2 * (2 - 2**0.5) / 4, 0]
    np.testing.assert_allclose(rates, expected, atol=1e-15)
    assert training.warmup_cosine(0.2, 0, 5, 0) == 0.2


@pytest.mark.parametrize("name", ["adamw", "nesterov"])
def test_optimisers_equal_torch(x64, name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    params = {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}
    gradients = [{k: rng.normal(size=v.shape) for k, v in params.items()} for _ in range(5)]
    rates = [0.01, 0.01, 0.003, 0.003, 0.001]

    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
    groups = [{"params": [theirs["kernel"]]}, {"params": [theirs["bias"]], "weight_decay": 0.0}]
    if name == "adamw":
        ours = training.adamw(weight_decay=0.3)
        reference = torch.optim.AdamW(groups, weight_decay=0.3)
    else:
        ours = training.nesterov(weight_decay=0.3)
        reference = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.3)

    state = ours.init(params)
    for gradient, rate in zip(gradients, rates):
        direction, state = ours.update(gradient, state, params)
        params = jax.tree.map(lambda p, d, rate=rate: p + rate * d, params, direction)
        for group in reference.param_groups:
            group["lr"] = rate
        for key, tensor in theirs.items():
            tensor.grad = torch.tensor(gradient[key])
        reference.step()
    for key, tensor in theirs.items():
        np.testing.assert_allclose(params[key], tensor.detach().numpy(), rtol=1e-12, err_msg=key)


def test_second_running_update_equals_a_second_forward(x64):
    module, variables = tiny(dtype=jnp.float64)
    images = images_of(6) / 255

    @jax.jit
    def forward(batch_stats):
        return module.apply(
            {"params": variables["params"], "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )[1]["batch_stats"]

    once = forward(variables["batch_stats"])
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-12),
        training.twice_updated(variables["batch_stats"], once),
        forward(once),
    )


def test_student_step_updates_statistics_twice_only_where_asked():
    module, variables = tiny()
    images = images_of(6) / np.float32(255)
    state = training.create_state(training.adamw(), variables)

    @functools.partial(jax.jit, static_argnums=0)
    def step(double_bn_update):
        return training.student_step(
            *(module.apply, training.adamw(), state, images, jnp.eye(6, 3), 0.01),
            double_bn_update=double_bn_update,
        )[0]

    twice, once = step(True), step(False)
    jax.tree.map(np.testing.assert_array_equal, twice.params, once.params)
    jax.tree.map(
        lambda before, one, two: np.testing.assert_allclose(
            two - before, 1.9 * (one - before), atol=1e-6
        ),
        state.batch_stats,
        once.batch_stats,
        twice.batch_stats,
    )


def test_student_that_equals_its_teacher_only_decays_its_matrices():
    params = {"kernel": jnp.arange(12.0).reshape(4, 3) / 10, "bias": jnp.array([1.0, 2.0, 3.0])}

    def apply(variables, images, train=False, mutable=(), rngs=None):
        logits = images @ variables["params"]["kernel"] + variables["params"]["bias"]
        return (logits, {}) if mutable else logits

    images = jax.random.normal(jax.random.key(0), (5, 4))
    optimizer = training.adamw(weight_decay=0.5)
    state = training.create_state(optimizer, {"params": params})
    # At a huge temperature the gradient is nothing beside Adam's epsilon, so only the decay is
    # left.
    state, loss = training.student_step(
        *(apply, optimizer, state, images, apply({"params": params}, images), 0.01),
        temperature=1e9,
    )
    assert abs(loss) < 1e-7
    np.testing.assert_allclose(state.params["kernel"], params["kernel"] * (1 - 0.01 * 0.5), 1e-6)
    np.testing.assert_array_equal(state.params["bias"], params["bias"])
    assert training.decayed(params) == {"bias": False, "kernel": True}
    assert state.batch_stats == {}  # a network without BatchNorm


def programs():
    module, variables = tiny()
    optimizer = training.adamw()
    statistics = Statistics(jnp.array([0.5, 0.4, 0.3]), jnp.array([0.25, 0.2, 0.3]))
    program = training.student_program(
        module.apply, module.apply, optimizer, StudentViews(randaugment_ops=1, min_scale=0.5)
    )

    def run(steps, key=0):
        state = training.create_state(optimizer, jax.tree.map(jnp.copy, tiny(seed=1)[1]))
        losses = []
        for step in range(steps):
            key_step = jax.random.fold_in(jax.random.key(key), step)
            state, loss = program(
                state, variables, images_of(6), key_step, 0.02, statistics, statistics
            )
            losses.append(float(loss))
        return state, losses

    return run


def test_student_program_learns_and_repeats_bit_for_bit():
    run = programs()
    state, losses = run(30)
    again, _ = run(30)
    jax.tree.map(np.testing.assert_array_equal, state, again)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert run(1, key=1)[1] != losses[:1]


def test_student_step_jitted_equals_eager(x64):
    module, variables = tiny(dtype=jnp.float64)
    optimizer = training.adamw()
    state = training.create_state(optimizer, variables)
    images = images_of(6) / 255

    def step(state):
        return training.student_step(module.apply, optimizer, state, images, jnp.eye(6, 3), 0.01)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        step(state),
        jax.jit(step)(state),
    )


def test_teacher_program_learns_to_tell_colours_apart():
    module, variables = tiny()
    labels = np.arange(24) % 3
    images = np.zeros((24, 8, 8, 3), np.uint8)
    images[np.arange(24), :, :, labels] = 200
    optimizer = training.nesterov(1e-4)
    state = training.create_state(optimizer, jax.tree.map(jnp.copy, variables))
    statistics = Statistics(jnp.full(3, 0.5), jnp.full(3, 0.25))
    program = training.teacher_program(module.apply, optimizer, padding=1, label_smoothing=0.1)
    for step in range(60):
        key = jax.random.fold_in(jax.random.key(0), step)
        state, _ = program(state, images, labels, key, 0.1, statistics)
    logits = training.inference_program(module.apply)(state.variables, images, statistics)
    assert (np.argmax(logits, axis=1) == labels).all()
