"""Losses, optimisers, schedules and steps of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_network import images_of, tiny

from delt_jax.core import training


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


@pytest.mark.parametrize("name", ["adamw", "nesterov", "sgd"])
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
        is_nesterov = name == "nesterov"
        ours = training.sgd(weight_decay=0.3, momentum=0.8, nesterov=is_nesterov)
        reference = torch.optim.SGD(
            groups, lr=1.0, momentum=0.8, nesterov=is_nesterov, weight_decay=0.3
        )

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


def test_second_running_update_takes_a_momentum_for_each_statistic():
    before = {"one": {"mean": jnp.zeros(2)}, "two": {"mean": jnp.zeros(2)}}
    after = {"one": {"mean": jnp.full(2, 0.1)}, "two": {"mean": jnp.full(2, 0.01)}}
    momenta = {"one": {"mean": 0.1}, "two": {"mean": 0.01}}
    twice = training.twice_updated(before, after, momenta)
    np.testing.assert_allclose(twice["one"]["mean"], 0.19, rtol=1e-6)  # batch mean 1, twice
    np.testing.assert_allclose(twice["two"]["mean"], 0.0199, rtol=1e-6)
    assert training.twice_updated({}, {}, {}) == {}  # a network without BatchNorm


def test_teacher_step_mixes_the_losses_of_both_labels(x64):
    module, variables = tiny(dtype=jnp.float64)
    optimizer = training.nesterov(0.0)
    state = training.create_state(optimizer, variables)
    images = images_of(6) / 255

    @jax.jit
    def loss(labels):
        return training.teacher_step(module.apply, optimizer, state, images, labels, 0.0)[1]

    own, partner = jnp.arange(6) % 3, (jnp.arange(6) + 1) % 3
    mixed = loss(training.HardLabels(own, partner, jnp.asarray(0.7)))
    parts = [loss(training.HardLabels(labels)) for labels in (own, partner)]
    np.testing.assert_allclose(mixed, 0.7 * parts[0] + 0.3 * parts[1], rtol=1e-12)


def test_average_follows_the_variables():
    assert training.average_weight(0.999, 0) == pytest.approx(0.9)  # the start is forgotten
    assert training.average_weight(0.999, 10**6) == pytest.approx(0.001)
    module, variables = tiny()
    optimizer = training.nesterov(0.0)
    state = training.create_state(optimizer, variables, averaged=True)
    images = (images_of(6) / 255).astype(np.float32)
    labels = training.HardLabels(jnp.arange(6) % 3)

    @jax.jit
    def step(state):
        return training.teacher_step(
            module.apply, optimizer, state, images, labels, 0.1, average_weight=0.25
        )[0]

    after = step(state)
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, state.variables, after.variables)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), after.average, expected
    )


def test_mixed_cross_entropy_is_torchs_of_both_labels(x64):
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(5, 4))
    own, partner = np.array([0, 3, 1, 1, 2]), np.array([2, 2, 1, 0, 3])
    cross_entropy = torch.nn.functional.cross_entropy
    parts = [cross_entropy(torch.tensor(logits), torch.tensor(y)).item() for y in (own, partner)]
    labels = training.HardLabels(own, partner, 0.3)
    found = training.mixed_cross_entropy(jnp.asarray(logits), labels)
    np.testing.assert_allclose(found, 0.3 * parts[0] + 0.7 * parts[1], rtol=1e-14)
    found = training.mixed_cross_entropy(jnp.asarray(logits), training.HardLabels(own))
    np.testing.assert_allclose(found, parts[0], rtol=1e-14)


def test_a_students_average_follows_it_statistics_and_all(x64):
    module, variables = tiny(dtype=jnp.float64)
    optimizer = training.sgd(0.0)
    state = training.create_state(optimizer, variables, averaged=True)
    images, labels = images_of(6) / 255, training.HardLabels(jnp.arange(6) % 3)

    @jax.jit
    def step(state, weight):
        return training.student_step(
            module.apply, optimizer, state, images, labels, 0.1, average_weight=weight
        )[0]

    expected = state.variables
    for decay in (0.1, 0.5, 0.9):
        state = step(state, 1 - decay)
        expected = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new, expected, state.variables
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12), state.average, expected)
    assert state.trained is state.average
    assert state._replace(average=None).trained["params"] is state.params
