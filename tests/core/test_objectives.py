"""Objectives: literal values, masking, gradients where they are delicate."""

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core import objectives
from delt_jax.core.objectives import ImageMoments, Moments


def image_moments(inputs, running_mean):
    centred = inputs - running_mean
    return ImageMoments(centred.mean((1, 2)), (centred**2).mean((1, 2)))


def test_cross_entropy_has_the_value_of_the_definition(x64):
    logits = jnp.asarray([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    weights = jnp.asarray([1.0, 1.0, 0.0])
    expected = (np.log(np.e**2 + 2) - 2 + np.log(np.e + 2) - 1) / 2
    loss = objectives.cross_entropy(logits, jnp.asarray([0, 1, 2]), weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_batch_moments_are_mean_and_biased_variance_of_the_active_images(x64):
    inputs = np.random.default_rng(0).normal(3.0, 2.0, (6, 4, 4, 5))
    running_mean = jnp.asarray(np.random.default_rng(1).normal(size=5))
    weights = jnp.asarray([1.0, 0, 1, 1, 0, 1])
    found = objectives.batch_moments(
        image_moments(jnp.asarray(inputs), running_mean), running_mean, weights
    )
    active = inputs[[0, 2, 3, 5]]
    np.testing.assert_allclose(found.mean, active.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.variance, active.var((0, 1, 2)), rtol=1e-12)


def test_float32_variance_about_the_running_mean_does_not_cancel():
    inputs = np.random.default_rng(0).normal(1000.0, 1.0, (8, 4, 4, 3))
    running_mean = np.full(3, 1000.0, np.float32)
    moments = image_moments(jnp.asarray(inputs, jnp.float32), running_mean)
    found = objectives.batch_moments(moments, jnp.asarray(running_mean), jnp.ones(8))
    np.testing.assert_allclose(found.variance, inputs.var((0, 1, 2)), rtol=1e-4)


def test_norm_at_zero_has_gradient_zero():
    np.testing.assert_array_equal(jax.grad(objectives.norm)(jnp.zeros(3)), np.zeros(3))


def make_objective():
    targets = {
        ("a",): Moments(jnp.zeros(2), jnp.ones(2)),
        ("b",): Moments(jnp.ones(2), jnp.ones(2)),
    }
    return objectives.cross_entropy_and_batch_norm(targets, {("b",): 10.0, ("a",): 1.0}, 0.01)


def test_objective_weighs_the_layers_and_reports_them_in_order(x64):
    moments = {
        ("a",): ImageMoments(jnp.asarray([[3.0, 4.0]]), jnp.asarray([[10.0, 17.0]])),
        ("b",): ImageMoments(jnp.asarray([[0.0, 2.0]]), jnp.asarray([[1.0, 5.0]])),
    }
    logits = jnp.zeros((1, 2))
    loss, metrics = make_objective()(logits, moments, jnp.asarray([0]), jnp.ones(1))
    np.testing.assert_allclose(metrics["loss_bn"], [2.0, 5.0])
    np.testing.assert_allclose(loss, np.log(2) + 0.01 * (10 * 2 + 5), rtol=1e-12)


def test_masked_full_batch_equals_the_sliced_one(x64):
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(5, 2)))
    moments = {
        path: ImageMoments(*(jnp.asarray(random.normal(size=(5, 2))) for _ in range(2)))
        for path in (("a",), ("b",))
    }
    labels = jnp.asarray([0, 1, 1, 0, 1])
    objective = make_objective()
    masked, _ = objective(logits, moments, labels, jnp.asarray([1.0, 1, 1, 0, 0]))
    first = jax.tree.map(lambda leaf: leaf[:3], moments)
    sliced, _ = objective(logits[:3], first, labels[:3], jnp.ones(3))
    np.testing.assert_allclose(masked, sliced, rtol=1e-12)


def test_an_empty_batch_gives_finite_gradients():
    def loss(logits):
        moments = {
            path: ImageMoments(jnp.zeros((2, 2)), jnp.ones((2, 2))) for path in (("a",), ("b",))
        }
        return make_objective()(logits, moments, jnp.asarray([0, 1]), jnp.zeros(2))[0]

    assert np.isfinite(jax.grad(loss)(jnp.zeros((2, 2)))).all()


def test_targets_pair_by_path():
    tree = {"layer1.0": {"bn1": {"mean": 1, "var": 2}}, "bn1": {"mean": 3, "var": 4}}
    assert objectives.batch_norm_targets(tree) == {
        ("layer1.0", "bn1"): (1, 2),
        ("bn1",): (3, 4),
    }
