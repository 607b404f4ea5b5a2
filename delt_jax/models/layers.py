"""torch's layers as Linen calls, so that an architecture here reads like its torch source.

Each takes the input first and computes in its dtype (normalisation and softmax in at least
float32); `name` is the layer's torch name, from which `delt_jax.models.torch_weights` finds its
weights. Sources: pytorch/torch/nn, torchvision/ops.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from delt_jax.models import initializers, windows
from delt_jax.models.batch_norm import BatchNorm


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
    return Conv(
        channels,
        side,
        stride=stride,
        padding=side // 2 if padding is None else padding,
        groups=groups,
        bias=bias,
        kernel_init=kernel_init,
        bias_init=bias_init or initializers.torch_default_bias(fan_in),
        name=name,
    )(x)


class Conv(nn.Module):
    """What `conv` calls; parameters kernel `[side, side, c / groups, channels]` and bias.

    Where `apply` is given the variables of `windows.with_adjoints`, gradients use them.
    """

    channels: int
    side: int
    stride: int
    padding: int | str
    groups: int
    bias: bool
    kernel_init: Initializer
    bias_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Computes in the dtype of x."""
        shape = (self.side, self.side, x.shape[-1] // self.groups, self.channels)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        if isinstance(self.padding, str):
            window, strides = shape[:2], (self.stride, self.stride)
            rows, columns = lax.padtype_to_pads(x.shape[1:3], window, strides, self.padding)
            padding = rows, columns
        else:
            padding = (self.padding, self.padding), (self.padding, self.padding)
        if self.groups == 1 and self.has_variable(windows.ADJOINT, "kernel"):
            adjoint = self.get_variable(windows.ADJOINT, "kernel").astype(x.dtype)
            x = windows.convolve_with_adjoint(x, kernel, adjoint, self.stride, padding)
        else:
            x = windows.convolve(x, kernel, self.stride, padding, self.groups)
        if self.bias:
            x += self.param("bias", self.bias_init, (self.channels,), jnp.float32).astype(x.dtype)
        return x


def conv_norm(
    x: Float[Array, "b h w c"],
    channels: int,
    side: int,
    train: bool,
    *,
    name: str,
    index: int = 0,
    activation: Callable[[Array], Array] | None = None,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    kernel_init: Initializer = initializers.kaiming_normal_fan_out,
    **arguments: Any,
) -> Float[Array, "b h2 w2 c2"]:
    """Convolution, BatchNorm and activation: torchvision.ops.Conv2dNormActivation or its like.

    Args:
      x: images or activations.
      channels: channels of the result.
      side: of the kernel in pixels.
      train: BatchNorm's mode.
      name: torch name of the Sequential that they are in.
      index: of the convolution in it; the BatchNorm is the next.
      activation: None: none.
      epsilon: BatchNorm's.
      momentum: BatchNorm's.
      kernel_init: of the kernel.
      **arguments: further ones of `conv`.
    """
    x = conv(x, channels, side, name=f"{name}.{index}", kernel_init=kernel_init, **arguments)
    x = BatchNorm(epsilon, momentum, name=f"{name}.{index + 1}")(x, train)
    return x if activation is None else activation(x)


def rounded_channels(channels: float) -> int:
    """The nearest multiple of 8, or the next where that is less than 0.9 of it: MobileNet's rule.

    Source: _make_divisible in torchvision/models/_utils.py.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


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


def mlp(
    x: Float[Array, "... c"],
    *,
    names: tuple[str, str],
    kernel_init: Initializer,
    bias_init: Initializer,
) -> Float[Array, "... c"]:
    """A transformer block's feed-forward layers, four times as wide, with GELU between them."""
    width = x.shape[-1]
    x = dense(x, 4 * width, kernel_init=kernel_init, bias_init=bias_init, name=names[0])
    x = nn.gelu(x, approximate=False)
    return dense(x, width, kernel_init=kernel_init, bias_init=bias_init, name=names[1])


def split_heads(
    packed: Float[Array, "... n qkv"], heads: int
) -> tuple[Float[Array, "... n h e"], Float[Array, "... n h e"], Float[Array, "... n h e"]]:
    """Queries, keys and values of every head, packed as torch does: all queries first."""
    packed = packed.reshape(*packed.shape[:-1], 3, heads, -1)
    return packed[..., 0, :, :], packed[..., 1, :, :], packed[..., 2, :, :]


def attend(
    query: Float[Array, "... n h e"],
    key: Float[Array, "... n h e"],
    value: Float[Array, "... n h e"],
    scale: Float[Array, "h 1 1"] | float | None = None,
    bias: Float[Array, "... h n n"] | None = None,
) -> Float[Array, "... n he"]:
    """Attention, `softmax(scale query key^T + bias) value`, its heads side by side.

    Args:
      query: of every head.
      key: likewise.
      value: likewise; the result has its dtype.
      scale: None: `1 / sqrt(e)`, as in torch's scaled_dot_product_attention.
      bias: added to the logits, which are at least float32.
    """
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("...qhe,...khe->...hqk", query, key, preferred_element_type=dtype)
    logits *= query.shape[-1] ** -0.5 if scale is None else scale
    weights = nn.softmax(logits if bias is None else logits + bias).astype(value.dtype)
    y = jnp.einsum("...hqk,...khe->...qhe", weights, value)
    return y.reshape(*y.shape[:-2], -1)


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
