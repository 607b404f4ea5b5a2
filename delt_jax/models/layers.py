"""torch's layers as Linen calls, so that an architecture here reads like its torch source.

Each takes the input first and computes in its dtype (normalisation and softmax in at least
float32); `name` is the layer's torch name, from which `delt_jax.models.torch_weights` finds its
weights. Sources: pytorch/torch/nn, torchvision/ops.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from delt_jax.models import initializers


def conv(
    x: Float[Array, "b h w c"],
    channels: int,
    side: int,
    *,
    name: str,
    stride: int = 1,
    padding: int | str | None = None,
    groups: int = 1,
    bias: bool = False,
    kernel_init: Initializer = initializers.torch_default_kernel,
    bias_init: Initializer | None = None,
) -> Float[Array, "b h2 w2 c2"]:
    """torch.nn.Conv2d with a `side` x `side` kernel.

    Args:
      x: images or activations.
      channels: channels of the result.
      side: of the kernel in pixels.
      name: torch name.
      stride: on both axes.
      padding: pixels on every border; None: `side // 2`, which keeps the side at stride 1; "SAME":
        TensorFlow's, which pads more at the bottom and the right where the sum is odd.
      groups: groups of channels; the number of input channels makes it depthwise.
      bias: whether a bias is added.
      kernel_init: of the kernel.
      bias_init: of the bias; None: torch's default.
    """
    fan_in = side * side * x.shape[-1] // groups
    return nn.Conv(
        channels,
        (side, side),
        strides=stride,
        padding=side // 2 if padding is None else padding,
        feature_group_count=groups,
        use_bias=bias,
        dtype=x.dtype,
        kernel_init=kernel_init,
        bias_init=bias_init or initializers.torch_default_bias(fan_in),
        name=name,
    )(x)


def dense(
    x: Float[Array, "... c"],
    features: int,
    *,
    name: str,
    bias: bool = True,
    kernel_init: Initializer = initializers.torch_default_kernel,
    bias_init: Initializer | None = None,
) -> Float[Array, "... c2"]:
    """torch.nn.Linear over the last axis; arguments as `conv`'s."""
    return nn.Dense(
        features,
        use_bias=bias,
        dtype=x.dtype,
        kernel_init=kernel_init,
        bias_init=bias_init or initializers.torch_default_bias(x.shape[-1]),
        name=name,
    )(x)


def layer_norm(
    x: Float[Array, "... c"], *, name: str, epsilon: float = 1e-5
) -> Float[Array, "... c"]:
    """torch.nn.LayerNorm over the last axis, in at least float32; returns the input's dtype."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    norm = nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)
    return norm(x).astype(x.dtype)


def max_pool(
    x: Float[Array, "b h w c"], side: int, stride: int, padding: int = 0
) -> Float[Array, "b h2 w2 c"]:
    """torch.nn.MaxPool2d: windows that do not fit are left out."""
    pairs: Sequence[tuple[int, int]] = ((padding, padding), (padding, padding))
    # nn.max_pool takes pairs, but is annotated as str
    return nn.max_pool(x, (side, side), strides=(stride, stride), padding=pairs)  # pyright: ignore[reportArgumentType]


def adaptive_avg_pool(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b s s c"]:
    """torch.nn.AdaptiveAvgPool2d: bin i of n pixels is the mean of [floor(i n/s), ceil((i+1) n/s)).

    Two small matrix products; bins overlap, or repeat pixels, where `side` does not divide.
    """

    def bins(length: int) -> Array:
        place, start = jnp.arange(length), jnp.arange(side) * length // side
        stop = -(-(jnp.arange(side) + 1) * length // side)
        inside = (place >= start[:, None]) & (place < stop[:, None])
        return inside / jnp.sum(inside, axis=1, keepdims=True)

    _, height, width, _ = x.shape
    rows, columns = bins(height).astype(x.dtype), bins(width).astype(x.dtype)
    precision = jax.lax.Precision.HIGHEST
    x = jnp.einsum("sh,bhwc->bswc", rows, x, precision=precision)
    return jnp.einsum("tw,bswc->bstc", columns, x, precision=precision)


def flatten(x: Float[Array, "b h w c"]) -> Float[Array, "b chw"]:
    """torch.flatten(x, 1): channels first, so that a classifier's weight needs no permutation."""
    return jnp.transpose(x, (0, 3, 1, 2)).reshape(len(x), -1)


class Dropout(nn.Module):
    """torch.nn.Dropout, or torchvision's StochasticDepth in its "row" mode.

    Drops in train mode where `apply` was given an rng named "dropout", and only then: without one
    the network is deterministic in train mode too, which is how parity with torch is tested.

    Attributes:
      rate: chance that a value (an image) becomes zero; the others are divided by 1 - rate.
      per_image: drop whole images of the batch, as stochastic depth does to a block's branch.
    """

    rate: float
    per_image: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], train: bool) -> Float[Array, "b ..."]:
        """Returns the input's shape and dtype."""
        if not train or self.rate == 0 or not self.has_rng("dropout"):
            return x
        axes = tuple(range(1, x.ndim)) if self.per_image else ()
        return nn.Dropout(self.rate, broadcast_dims=axes, deterministic=False)(x)


class SqueezeExcitation(nn.Module):
    """torchvision.ops.SqueezeExcitation: channels gated by their means, torch keys fc1 and fc2.

    Attributes:
      channels: of the bottleneck.
      activation: between the two layers.
      gate: from the second layer's output to the factor.
      kernel_init: of both kernels.
      bias_init: of both biases; None: torch's default.
    """

    channels: int
    activation: Callable[[Array], Array] = nn.relu
    gate: Callable[[Array], Array] = nn.sigmoid
    kernel_init: Initializer = initializers.torch_default_kernel
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the gated input."""
        init = {"kernel_init": self.kernel_init, "bias_init": self.bias_init}
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = self.activation(conv(y, self.channels, 1, bias=True, name="fc1", **init))
        return x * self.gate(conv(y, x.shape[-1], 1, bias=True, name="fc2", **init))
