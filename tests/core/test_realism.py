"""Coverage and Fréchet distance, against scikit-learn, SciPy and torch."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.neighbors import NearestNeighbors

from delt_jax.core.realism import coverage, frechet_distance


@pytest.fixture
def samples():
    """(features, labels) of a set, and of more real images."""
    rng = np.random.default_rng(0)
    set_labels, real_labels = rng.integers(0, 3, 30), rng.integers(0, 3, 90)
    shift = rng.normal(0, 1, (3, 6))
    ours = rng.normal(0.3, 0.8, (30, 6)) + shift[set_labels]
    real = rng.normal(0, 1, (90, 6)) + shift[real_labels]
    return (ours, set_labels), (real, real_labels)


def test_coverage_literal():
    # Real: 0, 1, 3 on a line; the nearest neighbours are 1, 1 and 2 away. Ours, at 0.4, is near 0
    # (0.4 < 1) and 1 (0.6 < 1) but not 3 (2.6 > 2).
    real = np.array([[0.0], [1.0], [3.0]])
    shares, mean = coverage(np.array([[0.4]]), np.zeros(1, int), real, np.zeros(3, int), 1, 1)
    np.testing.assert_allclose(shares, [2 / 3])
    assert mean == pytest.approx(2 / 3)
    # At 2, it is as far from 1 as the neighbour of 1: not nearer.
    shares, _ = coverage(np.array([[2.0]]), np.zeros(1, int), real, np.zeros(3, int), 1, 1)
    np.testing.assert_allclose(shares, [1 / 3])


@pytest.mark.parametrize("nearest", [1, 5])
def test_coverage_against_scikit_learn(samples, nearest):
    (ours, labels), (real, real_labels) = samples
    expected = []
    for k in range(3):
        own, truth = ours[labels == k], real[real_labels == k]
        # Without an argument, a point is not its own neighbour.
        radii = NearestNeighbors(n_neighbors=nearest).fit(truth).kneighbors()[0][:, -1]
        nearest_ours = NearestNeighbors(n_neighbors=1).fit(own).kneighbors(truth)[0][:, 0]
        expected.append(np.mean(nearest_ours < radii))
    shares, mean = coverage(ours, labels, real, real_labels, 3, nearest)
    np.testing.assert_allclose(shares, expected, rtol=1e-12)
    assert mean == pytest.approx(np.mean(expected))
    assert 0 < min(expected) < 1


def test_coverage_of_all_real_images_is_whole_and_of_none_is_nothing(samples):
    _, (real, real_labels) = samples
    assert coverage(real, real_labels, real, real_labels, 3)[1] == 1
    only_first = real_labels == 0
    shares, mean = coverage(real[only_first], real_labels[only_first], real, real_labels, 3)
    np.testing.assert_array_equal(shares, [1, 0, 0])
    assert mean == pytest.approx(1 / 3)


def test_coverage_leaves_out_classes_with_too_few_real_images(samples):
    (ours, labels), _ = samples
    real_labels = np.repeat([0, 1], [6, 5])
    shares, mean = coverage(ours, labels, ours[:11], real_labels, 3)
    assert np.isnan(shares).tolist() == [False, True, True]
    assert mean == shares[0]
    shares, mean = coverage(ours, labels, ours[:2], np.array([0, 1]), 3)
    assert np.isnan(shares).all()
    assert np.isnan(mean)


def test_frechet_distance_literal():
    # Means 1 and 4; deviations sqrt(2) and 3 sqrt(2): (4 - 1)^2 + (3 - 1)^2 * 2.
    ours, real = np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])
    assert frechet_distance(ours, real) == pytest.approx(9 + 8)


def test_frechet_distance_against_scipys_root(samples):
    (ours, _), (real, _) = samples
    covariances = np.cov(ours.T), np.cov(real.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((ours.mean(0) - real.mean(0)) ** 2)
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(ours, real) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(real, ours) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_fewer_images_than_dimensions():
    """The covariance is singular; its root is that of the eigenvalues that there are."""
    rng = np.random.default_rng(1)
    ours, real = rng.normal(0, 1, (7, 12)), rng.normal(0.2, 2, (40, 12))
    values, vectors = np.linalg.eigh(np.cov(ours.T))
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    between = np.linalg.eigvalsh(root @ np.cov(real.T) @ root).clip(0)
    expected = np.sum((ours.mean(0) - real.mean(0)) ** 2)
    expected += np.trace(np.cov(ours.T)) + np.trace(np.cov(real.T)) - 2 * np.sqrt(between).sum()
    assert frechet_distance(ours, real) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_invariances(samples):
    (ours, _), (real, _) = samples
    rng = np.random.default_rng(2)
    distance = frechet_distance(ours, real)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    moved = [rng.permutation(x) @ rotation + 3.0 for x in (ours, real)]
    assert frechet_distance(*moved) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(real, real + 2.0) == pytest.approx(6 * 2.0**2)
    assert np.isnan(frechet_distance(ours[:1], real))


def test_small_sets_are_further_away():
    """So that nobody compares sets of different sizes."""
    rng = np.random.default_rng(3)
    real, same = rng.normal(size=(2, 400, 10))
    assert frechet_distance(same[:20], real) > 3 * frechet_distance(same, real)
