"""BatchNorm by hand: literal numbers, and the identities that the objectives rest on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import unfreeze

from delt_jax.models.batch_norm import BatchNorm, spatial_moments

# Two images of two pixels and one channel; mean 4, biased variance 5, unbiased 20 / 3.
IMAGES = np.array([1.0, 3.0, 5.0, 7.0]).reshape(2, 1, 2, 1)
VARIABLES = {
    "params": {"scale": np.array([2.0]), "bias": np.array([0.5])},
    "batch_stats": {"mean": np.array([3.0]), "var": np.array([4.0])},
}


def test_inference_normalises_with_the_running_statistics(x64):
    out = BatchNorm().apply(VARIABLES, jnp.asarray(IMAGES), train=False)
    expected = (IMAGES - 3) / np.sqrt(4 + 1e-5) * 2 + 0.5
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_moments_are_per_image_and_about_the_running_mean(x64):
    images = jnp.asarray(IMAGES)
    out, sown = BatchNorm().apply(VARIABLES, images, train=False, mutable=["bn_stats"])
    assert unfreeze(sown["bn_stats"]).keys() == {"first", "second"}
    np.testing.assert_allclose(sown["bn_stats"]["first"], [[-1.0], [3.0]])
    np.testing.assert_allclose(sown["bn_stats"]["second"], [[2.0], [10.0]])
    np.testing.assert_array_equal(out, BatchNorm().apply(VARIABLES, images, train=False))


def test_training_normalises_biased_and_remembers_unbiased(x64):
    images = jnp.asarray(IMAGES)
    out, state = BatchNorm().apply(
        VARIABLES, images, train=True, mutable=["batch_stats", "bn_stats"]
    )
    np.testing.assert_allclose(out, (IMAGES - 4) / np.sqrt(5 + 1e-5) * 2 + 0.5, rtol=1e-12)
    np.testing.assert_allclose(state["batch_stats"]["mean"], [3.1])
    np.testing.assert_allclose(state["batch_stats"]["var"], [0.9 * 4 + 0.1 * 20 / 3])
    np.testing.assert_allclose(state["bn_stats"]["first"], [[-1.0], [3.0]])
    # Batch statistics without remembering them: the mode that some methods label in.
    np.testing.assert_array_equal(out, BatchNorm().apply(VARIABLES, images, train=True))


def test_moments_of_a_subset_are_weighted_means(x64):
    values = jnp.asarray(np.random.default_rng(0).normal(2, 3, (6, 4, 5, 3)))
    centre = jnp.asarray([1.0, 2.0, 3.0])
    first, second = spatial_moments(values - centre)
    weights = jnp.asarray([1, 0, 1, 1, 0, 0]) / 3
    shift = weights @ first
    chosen = np.asarray(values)[[0, 2, 3]]
    np.testing.assert_allclose(centre + shift, chosen.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(weights @ second - shift**2, chosen.var((0, 1, 2)), rtol=1e-12)


def test_one_pass_does_not_cancel_far_from_zero():
    # At 1000 +- 1 the naive E[x^2] - E[x]^2 in float32 is off by several per cent.
    images = np.random.default_rng(0).normal(1000, 1, (8, 16, 16, 2)).astype(np.float32)
    variables = BatchNorm().init(jax.random.key(0), images, train=False)
    variables["batch_stats"]["mean"] = jnp.full(2, 1000.0)
    _, sown = BatchNorm().apply(variables, images, train=False, mutable=["bn_stats"])
    first, second = (sown["bn_stats"][name].mean(0) for name in ("first", "second"))
    expected = images.astype(np.float64).var((0, 1, 2))
    np.testing.assert_allclose(second - first**2, expected, rtol=1e-5)


def test_init_holds_parameters_and_running_statistics_only():
    variables = BatchNorm().init(jax.random.key(0), jnp.asarray(IMAGES, jnp.float32), train=False)
    assert jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), variables) == {
        "params": {"scale": ((1,), "float32"), "bias": ((1,), "float32")},
        "batch_stats": {"mean": ((1,), "float32"), "var": ((1,), "float32")},
    }


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_images_have_float32_moments(train):
    images = jnp.asarray(np.random.default_rng(0).normal(5, 1, (4, 8, 8, 3)), jnp.bfloat16)
    variables = BatchNorm().init(jax.random.key(0), images, train=False)
    out, state = BatchNorm().apply(
        variables, images, train=train, mutable=["bn_stats", "batch_stats"]
    )
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    expected = np.asarray(images, np.float64).mean((1, 2))
    np.testing.assert_allclose(state["bn_stats"]["first"], expected, rtol=1e-6)
