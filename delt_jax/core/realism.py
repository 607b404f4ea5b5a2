"""How well images stand for real ones, in the features of a network; float64, on the host."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

NEAREST = 5  # k of the neighbours, as published with the measure


def coverage(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    real_features: Float[np.ndarray, "m d"],
    real_labels: Int[np.ndarray, " m"],
    num_classes: int,
    nearest: int = NEAREST,
) -> tuple[Float[np.ndarray, " k"], float]:
    """Share of the real images of each class that have an image of the set near them.

    Higher is better: the set reaches more of the class. Near means closer than the real image's
    `nearest`-th neighbour among the real images of its class. A set with fewer images covers less,
    and a real image covers itself, so compare sets of one size, and a set that holds some of the
    very images it is measured against with that in mind.

    Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for Generative Models",
    ICML 2020, arXiv 2002.09797, equation 6; here within each class.

    Args:
      features: of the set.
      labels: class of each image of the set.
      real_features: of real images.
      real_labels: class of each.
      num_classes: classes.
      nearest: which neighbour bounds what is near; itself not counted.

    Returns:
      The share of each class, 0 to 1 (NaN where it has no more than `nearest` real images; 0 where
      the set has none of it), and the mean over the classes that have one.
    """
    shares = np.full(num_classes, np.nan)
    for label in range(num_classes):
        real = np.asarray(real_features[real_labels == label], np.float64)
        own = np.asarray(features[labels == label], np.float64)
        if len(real) <= nearest:
            continue
        if not len(own):
            shares[label] = 0.0
            continue
        # Place 0 of each sorted row is the distance to itself.
        radii = np.partition(cdist(real, real), nearest, axis=1)[:, nearest]
        shares[label] = np.mean(cdist(real, own).min(axis=1) < radii)
    present = ~np.isnan(shares)
    return shares, float(shares[present].mean()) if present.any() else float("nan")


def frechet_distance(
    features: Float[np.ndarray, "n d"], real_features: Float[np.ndarray, "m d"]
) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features, all classes together.

    Lower is better, 0 is reached by equal means and covariances.

        |mean - mean'|^2 + tr(C + C' - 2 (C C')^(1/2)),    C of the sample, by n - 1

    Where a set has fewer images than features have dimensions, its C is singular. That does no harm
    to the arithmetic: with `C = A^T A`, the root's trace is the sum of the singular values of
    `A A'^T`, and nothing is inverted. But the distance of small sets is biased upwards, more so the
    smaller they are: compare only sets of one size against the same real images.

    Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update
    Rule", NeurIPS 2017, arXiv 1706.08500; there on the features of another network, so the values
    do not compare with the FID of papers.

    Args:
      features: of the set.
      real_features: of real images.

    Returns:
      The distance; NaN where either side has fewer than two images.
    """
    if min(len(features), len(real_features)) < 2:
        return float("nan")
    mean, root = _gaussian(features)
    real_mean, real_root = _gaussian(real_features)
    overlap = np.linalg.svd(root @ real_root.T, compute_uv=False).sum()
    between = np.sum((mean - real_mean) ** 2)
    # The rounding of equal Gaussians may lie below zero.
    return max(0.0, float(between + np.sum(root**2) + np.sum(real_root**2) - 2 * overlap))


def _gaussian(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "r d"]]:
    """The mean, and a root A of the covariance `A^T A`, of no more than d rows."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    root = (features - mean) / np.sqrt(len(features) - 1)
    if len(root) > root.shape[1]:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return mean, root
