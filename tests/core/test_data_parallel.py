"""Batches split over devices: the numbers of one device, or BatchNorm for each device."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from tiny_network import images_of

from delt_jax.core import data_parallel, programs, training
from delt_jax.core.augment.stored_views import StoredLabels, draw_epoch
from delt_jax.core.augment.views import Statistics, StudentViews, TeacherViews, student_views
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.runtime.mesh import device_mesh

DEVICES = 4
pytestmark = pytest.mark.four_devices


class Dropping(nn.Module):
    """A convolution, a BatchNorm as ours, dropout, a classifier."""

    rate: float = 0.3

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(4, (3, 3), dtype=images.dtype)(images)
        x = nn.relu(BatchNorm()(x, train)).mean((1, 2))
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(3, dtype=images.dtype)(x)


def network(rate=0.3, seed=0):
    module = Dropping(rate)
    variables = jax.jit(module.init)(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    return module, jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)), variables)


def mesh_of(devices=DEVICES):
    return device_mesh(data_parallel.IMAGES, devices)


def assert_close(found, expected, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


OPTIMIZER = training.adamw()
STATISTICS = ([0.5, 0.4, 0.3], [0.25, 0.2, 0.3])


def student_call(mesh, batch, at_once=1, **options):
    """A program and what it is called with; of several steps, all but the last are done."""
    module, variables = network()
    _, other = network(seed=1)
    program = programs.student_program(
        module.apply, module.apply, OPTIMIZER, StudentViews(randaugment_ops=0), mesh=mesh, **options
    )
    statistics = Statistics.of(*STATISTICS)
    order = [np.random.default_rng(i).permutation(12)[:batch] for i in range(max(1, at_once - 1))]
    return program, data_parallel.replicate(
        (
            training.create_state(OPTIMIZER, variables),
            programs.Pool(images_of(12)),
            programs.Steps.of(order, 3, [0.02] * len(order), at_once=at_once),
            jax.random.key(0),
            statistics,
            programs.Labeller(other, statistics),
        ),
        mesh,
    )


@pytest.mark.parametrize(("batch", "at_once"), [(6, 1), (8, 3)], ids=["uneven", "loop"])
def test_four_devices_give_a_student_the_numbers_of_one(x64, batch, at_once):
    program, arguments = student_call(None, batch, at_once)
    expected = program(*arguments)
    program, arguments = student_call(mesh_of(), batch, at_once)
    state, losses = program(*arguments)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))
    assert_close((state, losses), expected, 1e-9)
    assert losses[0] > 0


def test_four_devices_store_and_learn_the_labels_of_one(x64):
    module, variables = network()
    statistics, plain = Statistics.of(*STATISTICS), StudentViews(randaugment_ops=0)
    order, views = draw_epoch(jax.random.key(2), 12, 8, 6, plain)
    found = []
    for mesh in (None, mesh_of()):
        constants = data_parallel.replicate((images_of(12), views), mesh)
        labeller = data_parallel.replicate(programs.Labeller(variables, statistics), mesh)
        label = programs.labelling_program(module.apply, mesh=mesh)
        logits = label(*constants, jnp.arange(12), labeller)
        assert logits.dtype == jnp.float16
        program = programs.student_program(module.apply, None, OPTIMIZER, None, mesh=mesh)
        pool = programs.Pool(images_of(12), None, StoredLabels(views, logits))
        state = training.create_state(OPTIMIZER, network(seed=1)[1])
        steps = programs.Steps.of([order[:6], order[6:]], 0, [0.02, 0.01], at_once=2)
        arguments = (state, pool, steps, jax.random.key(0), statistics, None)
        trained = program(*data_parallel.replicate(jax.tree.map(jnp.copy, arguments), mesh))
        found.append((logits.astype(float), trained))
    assert_close(found[1][0], found[0][0], 2e-3)  # float16
    assert_close(found[1][1], found[0][1], 1e-9)
    assert found[0][1][1][0] > 0


@pytest.mark.parametrize(
    ("arrangement", "labels"),
    [
        ("one device", "soft"),
        ("synchronised", "hard"),
        ("per_device", "soft"),
        pytest.param("synchronised", "stored", marks=pytest.mark.slow),
    ],
)
def test_students_of_several_seeds_train_as_each_alone(x64, labels, arrangement):
    mesh = None if arrangement == "one device" else mesh_of()
    batch_norm = "per_device" if arrangement == "per_device" else "synchronised"
    module, variables = network()
    statistics = Statistics.of(*STATISTICS)
    pool = programs.Pool(images_of(24), np.arange(24) % 3)  # two sets of 12, one after the other
    if labels == "stored":
        _, views = draw_epoch(jax.random.key(2), 24, 8, 6, StudentViews(randaugment_ops=0))
        logits = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float16)
        pool = pool._replace(labels=None, stored=StoredLabels(views, jnp.asarray(logits)))
    labeller = programs.Labeller(variables, statistics) if labels == "soft" else None
    states = [
        training.create_state(OPTIMIZER, network(seed=seed)[1], averaged=True) for seed in (1, 2)
    ]
    orders = [
        [12 * seed + np.random.default_rng((seed, i)).permutation(12)[:8] for i in range(2)]
        for seed in (0, 1)
    ]
    keys = [jax.random.key(seed) for seed in (5, 6)]

    def train(state, order, key, together):
        program = programs.student_program(
            module.apply,
            module.apply if labels == "soft" else None,
            OPTIMIZER,
            StudentViews(randaugment_ops=0),
            mesh=mesh,
            batch_norm=batch_norm,
            together=together,
        )
        steps = programs.Steps.of(order, 3, [0.02, 0.01], [0.9, 0.8], at_once=3)
        arguments = (state, pool, steps, key, statistics, labeller)
        return program(*data_parallel.replicate(jax.tree.map(jnp.copy, arguments), mesh))

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    found, losses = train(stacked, np.stack(orders, axis=1), jnp.stack(keys), True)
    assert losses.shape == (3, 2)
    for place in range(2):
        expected, alone = train(states[place], orders[place], keys[place], False)
        np.testing.assert_allclose(losses[:2, place], alone[:2], rtol=0, atol=1e-9)
        assert_close(jax.tree.map(lambda leaf, i=place: leaf[i], found), expected, 1e-9)
    assert losses[0, 0] != losses[0, 1]


def test_views_are_the_same_on_any_number_of_devices():
    def views(mesh):
        return jax.jit(
            lambda key, images: student_views(
                key, data_parallel.split(images, mesh), StudentViews(randaugment_ops=1)
            )[0]
        )(*data_parallel.replicate((jax.random.key(0), images_of(6)), mesh))

    np.testing.assert_allclose(views(mesh_of()), views(None), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_norm", data_parallel.BATCH_NORMS)
def test_each_device_convolves_its_share_alone(batch_norm):
    program, arguments = student_call(mesh_of(), 8, batch_norm=batch_norm)
    text = program.lower(*arguments).compile().as_text()
    batches = re.findall(r"= f32\[(\d+),8,8,4\]\S* convolution\(", text)
    assert batches
    assert set(batches) == {"2"}
    # What all devices know together: the gradient, and the statistics forwards and backwards.
    sums = text.count(" all-reduce(") + text.count(" all-reduce-start(")
    assert sums == (1 if batch_norm == "per_device" else 3)


def test_four_devices_give_a_teacher_the_numbers_of_one(x64):
    module, variables = network()
    optimizer = training.nesterov(1e-4)
    found = []
    for mesh in (None, mesh_of()):
        views = TeacherViews(8, pad=1, cutmix_probability=0.5)
        program = programs.teacher_program(module.apply, optimizer, views, mesh=mesh)
        state = training.create_state(optimizer, jax.tree.map(jnp.copy, variables), averaged=True)
        pool = programs.Pool(images_of(12), np.arange(12) % 3)
        order = [np.arange(6), np.arange(5, 11)]
        steps = programs.Steps.of(order, 0, [0.1, 0.2], [0.5, 0.5], at_once=2)
        constants = data_parallel.replicate((pool, steps, jax.random.key(0)), mesh)
        state = data_parallel.replicate(state, mesh)
        found.append(program(state, *constants, Statistics.of(*STATISTICS)))
    assert_close(found[1], found[0], 1e-9)


@pytest.mark.parametrize("double", [True, False])
def test_per_device_is_what_distributed_data_parallel_does(x64, double):
    module, variables = network(rate=0)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(8, 8, 8, 3)), rng.normal(size=(8, 3))
    before = training.create_state(OPTIMIZER, variables)

    # Each worker by itself: its share's loss and gradient; the gradients' mean is everyone's.
    def loss(params, images, labels):
        tree = {**variables, "params": params}
        logits, updated = module.apply(tree, images, train=True, mutable=["batch_stats"])
        return training.distillation_loss(logits, labels, 20.0), updated["batch_stats"]

    workers = [
        jax.value_and_grad(loss, has_aux=True)(before.params, *share)
        for share in zip(np.split(images, DEVICES), np.split(labels, DEVICES), strict=True)
    ]
    gradient = jax.tree.map(lambda *leaves: sum(leaves) / DEVICES, *(g for _, g in workers))
    updates, _ = OPTIMIZER.update(gradient, before.optimizer_state, before.params)
    updates = jax.tree.map(lambda leaf: 0.1 * leaf, updates)
    (_, statistics), _ = workers[0]
    if double:  # once more with the same batch: .1 of what is left of the way
        statistics = jax.tree.map(
            lambda old, new: new + 0.9 * (new - old), before.batch_stats, statistics
        )

    apply = data_parallel.per_device(module.apply, mesh_of())
    step = jax.jit(
        lambda state, images, labels: training.student_step(
            apply, OPTIMIZER, state, images, labels, 0.1, double_bn_update=double
        )
    )
    state, mean = step(*data_parallel.replicate((before, images, labels), mesh_of()))
    assert_close(mean, np.mean([value for (value, _), _ in workers]), 1e-12)
    assert_close(state.params, optax.apply_updates(before.params, updates), 1e-9)
    assert_close(state.batch_stats, statistics, 1e-12)


def test_per_device_normalises_a_ragged_batch_as_a_whole(x64):
    module, variables = network(rate=0)
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    applied = data_parallel.per_device(module.apply, mesh_of())
    split = jax.jit(lambda tree, images: applied(tree, images, True, ["batch_stats"]))
    for count, is_whole in ((6, True), (8, False)):
        expected = module.apply(variables, images[:count], train=True, mutable=["batch_stats"])
        found = split(*data_parallel.replicate((variables, images[:count]), mesh_of()))
        distances = jax.tree.map(lambda a, b: np.abs(a - b).max(), found, expected)
        assert (max(jax.tree.leaves(distances)) < 1e-12) == is_whole


def test_per_device_drops_anew_on_each_device():
    module = nn.Dropout(0.5, deterministic=False)

    def apply(variables, images, train, mutable, rngs):
        return module.apply(variables, images, rngs=rngs), {}

    applied = jax.jit(
        lambda images, rngs: data_parallel.per_device(apply, mesh_of())({}, images, True, [], rngs)
    )
    ones, rngs = data_parallel.replicate(
        (jnp.ones((4, 64)), {"dropout": jax.random.key(0)}), mesh_of()
    )
    kept, _ = applied(ones, rngs)
    assert len(np.unique(np.asarray(kept), axis=0)) == DEVICES


@pytest.mark.parametrize("count", [3, 8])
def test_inference_on_four_devices_is_that_on_one(x64, count):
    module, variables = network()
    images, statistics = images_of(count), Statistics.of(*STATISTICS)
    expected = programs.inference_program(module.apply)(variables, images, statistics)
    variables = data_parallel.replicate(variables, mesh_of())
    found = programs.inference_program(module.apply, mesh_of())(variables, images, statistics)
    assert found.shape == (count, 3)
    assert_close(found, expected, 1e-12)
