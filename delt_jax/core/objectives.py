"""What synthesis minimises, as masked means, so that inactive slots change nothing.

Every function takes `weights` `[b]`: 1 for an active slot, 0 for one that is not (or for padding).
Means are `sum(weights * x) / sum(weights)`; a batch without any active slot gives zeros, not NaN.

Source: SRe2L / DELT `recover/utils.py` (`BNFeatureHook`) and `recover/recover.py` at f2f81ca.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from delt_jax import target

Path = tuple[str, ...]


class Moments(NamedTuple):
    """Mean and variance of a BatchNorm's input, over images and space, per channel, `[c]`."""

    mean: Float[Array, "c"]
    variance: Float[Array, "c"]


class ImageMoments(NamedTuple):
    """Moments of each image about the BatchNorm's running mean m, over its pixels, `[b, c]`.

    Attributes:
      first: mean of x - m.
      second: mean of (x - m)^2. About the running mean, so that one pass over x is enough and the
        difference below does not cancel.
    """

    first: Float[Array, "b c"]
    second: Float[Array, "b c"]


Objective = Callable[
    [Float[Array, "b k"], Mapping[Path, ImageMoments], Int[Array, "b"], Float[Array, "b"]],
    tuple[Float[Array, ""], dict[str, Float[Array, "..."]]],
]
"""`(logits, moments, labels, weights) -> (loss, metrics)`."""


def masked_mean(values: Float[Array, "b ..."], weights: Float[Array, "b"]) -> Float[Array, "..."]:
    """Mean over the first axis of the entries with weight; zero where there are none."""
    total = jnp.maximum(jnp.sum(weights), 1)
    return jnp.tensordot(weights / total, values, axes=1, precision=jax.lax.Precision.HIGHEST)


def cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], weights: Float[Array, "b"]
) -> Float[Array, ""]:
    """Masked mean of `-log softmax(logits)[label]`."""
    log_probabilities = jax.nn.log_softmax(logits)
    # Against one-hot rather than by gather: its gradient is no scatter.
    hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return masked_mean(-jnp.sum(hot * log_probabilities, axis=-1), weights)


def batch_moments(
    moments: ImageMoments, running_mean: Float[Array, "c"], weights: Float[Array, "b"]
) -> Moments:
    """Mean and biased variance over the active images of a batch and their pixels."""
    shift = masked_mean(moments.first, weights)
    return Moments(running_mean + shift, masked_mean(moments.second, weights) - shift**2)


def norm(vector: Float[Array, "c"]) -> Float[Array, ""]:
    """Euclidean norm whose gradient at zero is zero, as torch's."""
    square = jnp.sum(vector**2)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def moment_distance(found: Moments, wanted: Moments) -> Float[Array, ""]:
    """`||wanted.variance - found.variance||_2 + ||wanted.mean - found.mean||_2`."""
    return norm(wanted.variance - found.variance) + norm(wanted.mean - found.mean)


def batch_norm_targets(batch_stats: Mapping[str, Any]) -> dict[Path, Moments]:
    """The running statistics of a network as matching targets, by path of the BatchNorm."""
    targets: dict[Path, Moments] = {}

    def visit(tree: Mapping[str, Any], path: Path) -> None:
        if "mean" in tree and "var" in tree:
            targets[path] = Moments(tree["mean"], tree["var"])
        else:
            for name, branch in tree.items():
                visit(branch, (*path, name))

    visit(batch_stats, ())
    return targets


def cross_entropy_and_batch_norm(
    targets: Mapping[Path, Moments],
    layer_weights: Mapping[Path, float],
    bn_weight: float,
) -> Objective:
    """DELT's objective: cross-entropy + bn_weight * sum_l w_l * distance of the moments of layer l.

    Args:
      targets: wanted moments of each BatchNorm's input (the running statistics); the batch is
        summed up about `targets[path].mean`, about which the network must have taken its
        `ImageMoments`.
      layer_weights: w_l for each path, in the order in which `loss_bn` is reported. The published
        weights are 10 for the first BatchNorm of the network and 1 for the others.
      bn_weight: the weight of the sum (.01 in the paper).

    Returns:
      An `Objective`; metrics are `loss_ce` `[]` and `loss_bn` `[layers]` (unweighted, per layer).
    """

    def objective(logits, moments, labels, weights):
        weights = weights.astype(logits.dtype)
        loss_ce = cross_entropy(logits, labels, weights)
        if target.platform() == "gpu":
            # Else XLA weighs fusing every layer's few numbers with every other's: with two class
            # batches side by side it compiles for minutes instead of seconds.
            moments = jax.lax.optimization_barrier(moments)
        distances = []
        for path in layer_weights:
            found = batch_moments(moments[path], targets[path].mean, weights)
            distances.append(moment_distance(found, targets[path]))
        loss_bn = jnp.stack(distances)
        importance = jnp.asarray(tuple(layer_weights.values()), loss_bn.dtype)
        loss = loss_ce + jnp.asarray(bn_weight, loss_bn.dtype) * jnp.sum(importance * loss_bn)
        return loss, {"loss_ce": loss_ce, "loss_bn": loss_bn}

    return objective
