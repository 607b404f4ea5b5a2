"""Scores of DD-Ranking: what the images themselves give, apart from labels and augmentations.

Source: "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", arXiv 2505.13300, and
NUS-HPC-AI-Lab/DD-Ranking at b8b0966. Accuracies are fractions in [0, 1], arrays of any shape
(seeds, say). NOTE(parity): their code feeds percent into the exponential, which the published
formula does not bear: scores of it are not comparable with these.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Accuracy = Float[Array, "..."] | float

WEIGHT = 0.5  # of either half of a score, as published


def label_robust_score(
    full_hard: Accuracy,
    synthetic_hard: Accuracy,
    synthetic_soft: Accuracy,
    random_soft: Accuracy,
    weight: float = WEIGHT,
) -> Float[Array, "..."]:
    """LRS: high where the images beat random ones and are worth much without soft labels.

    With HLR, the hard-label accuracy that is missing to full data, and IOR, the improvement over
    random images under the same protocol: `score(weight IOR - (1 - weight) HLR)`.

    Args:
      full_hard: of a student of all real images with hard labels.
      synthetic_hard: of students of the synthetic images with hard labels.
      synthetic_soft: the same with soft labels.
      random_soft: of students of as many random real images with soft labels.
      weight: of IOR.

    Returns:
      In [0, 1].
    """
    missing = jnp.subtract(full_hard, synthetic_hard)
    improvement = jnp.subtract(synthetic_soft, random_soft)
    return score(weight * improvement - (1 - weight) * missing)


def augmentation_robust_score(
    synthetic: Accuracy,
    random: Accuracy,
    synthetic_plain: Accuracy,
    random_plain: Accuracy,
    weight: float = WEIGHT,
) -> Float[Array, "..."]:
    """ARS: high where the images beat random ones, with augmentation and without it.

    `score(weight (synthetic - random) + (1 - weight) (synthetic_plain - random_plain))`.

    Args:
      synthetic: of students of the synthetic images, with augmentation.
      random: of as many random real images, with augmentation.
      synthetic_plain: the first without augmentation.
      random_plain: the second without augmentation.
      weight: of the difference with augmentation.

    Returns:
      In [0, 1]; .269 where the images are as good as random ones.
    """
    augmented = jnp.subtract(synthetic, random)
    plain = jnp.subtract(synthetic_plain, random_plain)
    return score(weight * augmented + (1 - weight) * plain)


def score(difference: Accuracy) -> Float[Array, "..."]:
    """`(e^d - e^-1) / (e - e^-1)`: [-1, 1] onto [0, 1]; 0 becomes .269."""
    return (jnp.exp(difference) - jnp.exp(-1.0)) / (jnp.exp(1.0) - jnp.exp(-1.0))
