"""Cosines within classes, to the centroid and of pairs, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from delt_jax.core.diversity import intra_class_cosine, pairwise_cosine


def test_literal(x64):
    # Class 0: two orthogonal vectors, 45 degrees from their mean. Class 1: one vector.
    features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    per_class, mean = intra_class_cosine(features, jnp.array([0, 0, 1]), 2)
    np.testing.assert_allclose(per_class, [np.sqrt(0.5), 1.0], rtol=1e-12)
    np.testing.assert_allclose(mean, (np.sqrt(0.5) + 1) / 2, rtol=1e-12)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return rng.normal(0.5, 1, (40, 7)), rng.integers(0, 4, 40)


def test_against_scikit_learn(x64, sample):
    features, labels = sample
    expected = [
        cosine_similarity(
            features[labels == k], features[labels == k].mean(0, keepdims=True)
        ).mean()
        for k in range(4)
    ]
    for function in (intra_class_cosine, jax.jit(intra_class_cosine, static_argnums=2)):
        per_class, mean = function(jnp.asarray(features), jnp.asarray(labels), 4)
        np.testing.assert_allclose(per_class, expected, rtol=1e-12)
        np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-12)


def test_invariances(x64, sample):
    features, labels = sample
    per_class, _ = intra_class_cosine(jnp.asarray(features), jnp.asarray(labels), 4)
    shuffle = np.random.default_rng(1).permutation(40)
    shuffled, _ = intra_class_cosine(
        jnp.asarray(3.0 * features[shuffle]), jnp.asarray(labels[shuffle]), 4
    )
    np.testing.assert_allclose(shuffled, per_class, rtol=1e-12)


def test_class_without_an_image_is_left_out_of_the_mean(x64):
    features = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    per_class, mean = intra_class_cosine(features, jnp.array([0, 0, 2]), 4)
    np.testing.assert_allclose(per_class, [np.sqrt(0.5), np.nan, 0.0, np.nan], rtol=1e-12)
    np.testing.assert_allclose(mean, np.sqrt(0.5) / 2, rtol=1e-12)


def test_pairwise_literal(x64):
    # Class 0: pairs at 90, 45 and 45 degrees. Class 1: one vector alone, no pair.
    features = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [3.0, 4.0]])
    per_class, mean = pairwise_cosine(features, jnp.array([0, 0, 0, 1]), 3)
    np.testing.assert_allclose(per_class, [np.sqrt(2) / 3, np.nan, np.nan], rtol=1e-12)
    np.testing.assert_allclose(mean, np.sqrt(2) / 3, rtol=1e-12)


def test_pairwise_against_scikit_learn(x64, sample):
    features, labels = sample
    features[3] = 0  # counts as cosine 0 to all others
    expected = []
    for k in range(4):
        cosines = cosine_similarity(features[labels == k])
        expected.append(cosines[~np.eye(len(cosines), dtype=bool)].mean())
    for function in (pairwise_cosine, jax.jit(pairwise_cosine, static_argnums=2)):
        per_class, mean = function(jnp.asarray(features), jnp.asarray(labels), 4)
        np.testing.assert_allclose(per_class, expected, rtol=1e-10)
        np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-10)


def test_only_pairwise_cosine_does_not_depend_on_the_number_of_images(x64):
    features = jnp.asarray(np.random.default_rng(2).normal(0.3, 1, (4000, 8)))
    few = jnp.arange(4000) // 4  # a thousand classes of four images of one distribution
    one = jnp.zeros(4000, int)
    np.testing.assert_allclose(
        pairwise_cosine(features, few, 1000)[1], pairwise_cosine(features, one, 1)[1], atol=0.02
    )
    _, of_few = intra_class_cosine(features, few, 1000)
    _, of_many = intra_class_cosine(features, one, 1)
    assert of_few > of_many + 0.1
