"""How alike the images of a class are, in the features of a network."""

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
    counts = jax.ops.segment_sum(jnp.ones_like(features[:, 0]), labels, num_classes)  # (k,)
    present = counts > 0
    sums = jax.ops.segment_sum(features, labels, num_classes)  # (k, d), parallel to the centroids
    cosines = jnp.sum(_unit(features) * _unit(sums)[labels], axis=-1)  # (n,)
    totals = jax.ops.segment_sum(cosines, labels, num_classes)
    means = totals / jnp.where(present, counts, 1)
    per_class = jnp.where(present, means, jnp.nan)
    mean = jnp.sum(jnp.where(present, means, 0)) / jnp.sum(present)
    return per_class, mean


def _unit(vectors: Float[Array, "n d"]) -> Float[Array, "n d"]:
    norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.where(norms > 0, norms, 1)
