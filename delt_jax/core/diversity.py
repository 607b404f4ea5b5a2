"""How alike the images of a class are to one another, in the features of a network."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def intra_class_cosine(
    features: Float[Array, "n d"], labels: Int[Array, " n"], num_classes: int
) -> tuple[Float[Array, " k"], Float[Array, ""]]:
    """Mean cosine similarity of the images of each class to the centroid of that class.

    Lower is more diverse (the paper's figure of diversity: features of a pretrained ResNet-18).

        c_k = mean of f_i over class k;  s_k = mean over class k of  f_i . c_k / (|f_i| |c_k|)

    Args:
      features: one vector per image, not normalised.
      labels: class of each.
      num_classes: k; static under `jit`.

    Returns:
      s of each class (NaN where a class has no image), and their mean over the classes that have
      one. A vector of length zero counts as cosine 0.
    """
    counts = _class_sums(jnp.ones_like(features[:, 0]), labels, num_classes)  # (k,)
    sums = _class_sums(features, labels, num_classes)  # (k, d), parallel to the centroids
    cosines = jnp.sum(_unit(features) * _unit(sums)[labels], axis=-1)  # (n,)
    totals = _class_sums(cosines, labels, num_classes)
    return _class_means(totals, counts)


def pairwise_cosine(
    features: Float[Array, "n d"], labels: Int[Array, " n"], num_classes: int
) -> tuple[Float[Array, " k"], Float[Array, ""]]:
    """Mean cosine similarity of two different images of each class.

    Lower is more diverse. Unlike the cosine to the centroid, to which every image itself belongs,
    it does not depend on how many images a class has, so sets of any sizes compare.

        s_k = mean over i != j of class k of  u_i . u_j,    u = f / |f|
            = (|sum u_i|^2 - sum |u_i|^2) / (n_k (n_k - 1))

    Args:
      features: one vector per image, not normalised.
      labels: class of each.
      num_classes: k; static under `jit`.

    Returns:
      s of each class (NaN where a class has fewer than two images), and their mean over the classes
      that have two. A vector of length zero counts as cosine 0.
    """
    unit = _unit(features)
    counts = _class_sums(jnp.ones_like(features[:, 0]), labels, num_classes)  # (k,)
    sums = _class_sums(unit, labels, num_classes)  # (k, d)
    alone = _class_sums(jnp.sum(unit**2, axis=-1), labels, num_classes)  # (k,), pairs i = j
    return _class_means(jnp.sum(sums**2, axis=-1) - alone, counts * (counts - 1))


def _class_sums(
    values: Float[Array, "n *d"], labels: Int[Array, " n"], num_classes: int
) -> Float[Array, "k *d"]:
    return jax.ops.segment_sum(values, labels, num_classes)


def _class_means(
    totals: Float[Array, " k"], counts: Float[Array, " k"]
) -> tuple[Float[Array, " k"], Float[Array, ""]]:
    """Total by count of each class, NaN where nothing was counted; and the mean of the others."""
    present = counts > 0
    means = totals / jnp.where(present, counts, 1)
    mean = jnp.sum(jnp.where(present, means, 0)) / jnp.sum(present)
    return jnp.where(present, means, jnp.nan), mean


def _unit(vectors: Float[Array, "n d"]) -> Float[Array, "n d"]:
    norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.where(norms > 0, norms, 1)
