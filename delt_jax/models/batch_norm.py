"""Batch normalisation as torch computes it, able to hand out the moments of what it sees."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import sowing


def spatial_moments(
    centred: Float[Array, "b *space c"],
) -> tuple[Float[Array, "b c"], Float[Array, "b c"]]:
    """First and second moment of each image's channels over its pixels.

    Args:
      centred: values about some fixed point per channel, at least float32.

    Returns:
      `mean(centred)` and `mean(centred ** 2)` over every axis but the first and the last.
    """
    space = tuple(range(1, centred.ndim - 1))
    return jnp.mean(centred, axis=space), jnp.mean(jnp.square(centred), axis=space)


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm2d over the last axis: parameters scale, bias; running mean, var.

    Computes in the images' dtype promoted to at least float32, and returns the images' dtype.

    With `mutable=["bn_stats"]` (in either mode) it also sows, about the running mean m that it
    was given, each image's `first = mean(x - m)` and `second = mean((x - m) ** 2)`, shape
    `[b, c]`. A batch's mean and biased variance follow for any weighting w of its images (all, the
    active ones, one class) as `m + sum(w first)` and `sum(w second) - sum(w first) ** 2`: one pass,
    and no cancellation because m is near the mean.

    Attributes:
      epsilon: added to the variance (torch's `eps`).
      momentum: weight of the new batch in the running statistics (torch's convention).
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b *space c"], train: bool
    ) -> Float[Array, "b *space c"]:
        """Normalises with the running statistics, or with the batch's own where `train`.

        `train` updates the running statistics where `batch_stats` is mutable: torch's rule, which
        normalises with the biased variance and remembers the unbiased one.
        """
        shape = (inputs.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)

        dtype = jnp.promote_types(inputs.dtype, jnp.float32)
        variance = running_var.value.astype(dtype)
        # Not folded into the multiply-add below: XLA fuses both at no measurable cost, the moments
        # share it, and the output has the same bits whether they are asked for or not.
        centred = inputs.astype(dtype) - running_mean.value.astype(dtype)

        if train or sowing.is_wanted(self, "bn_stats"):
            first, second = spatial_moments(centred)
            sowing.sow_latest(self, "bn_stats", "first", first)
            sowing.sow_latest(self, "bn_stats", "second", second)
            if train:
                shift = jnp.mean(first, axis=0)
                variance = jnp.maximum(jnp.mean(second, axis=0) - jnp.square(shift), 0)
                self._remember(running_mean, running_var, shift, variance, inputs.size)
                centred = centred - shift

        multiplier = scale.astype(dtype) / jnp.sqrt(variance + self.epsilon)
        return (centred * multiplier + bias.astype(dtype)).astype(inputs.dtype)

    def _remember(self, running_mean, running_var, shift, variance, size: int) -> None:
        """Moves the running statistics towards a batch's mean (m + shift) and unbiased variance."""
        if self.is_initializing() or not self.is_mutable_collection("batch_stats"):
            return
        count = size // shift.size
        unbiased = variance * (count / max(count - 1, 1))
        mean, var = running_mean.value, running_var.value
        running_mean.value = (mean + self.momentum * shift).astype(mean.dtype)
        running_var.value = ((1 - self.momentum) * var + self.momentum * unbiased).astype(var.dtype)
