"""torchvision's MobileNetV2 and MobileNetV3-Large.

References:
  Sandler et al., arXiv 1801.04381; torchvision/models/mobilenetv2.py.
  Howard et al., arXiv 1905.02244; torchvision/models/mobilenetv3.py.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.sowing import sow_penultimate

_dense = functools.partial(
    layers.dense, kernel_init=nn.initializers.normal(0.01), bias_init=nn.initializers.zeros
)
_conv_norm_v3 = functools.partial(layers.conv_norm, epsilon=1e-3, momentum=0.01)

# MobileNetV2, table 2 of its paper: expansion, channels, blocks, stride of the first block.
_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _Row(NamedTuple):
    """A block of MobileNetV3: kernel side, expanded channels, channels, SE, hard-swish, stride."""

    side: int
    expanded: int
    channels: int
    squeezes: bool
    hard_swish: bool
    stride: int


_V3_LARGE = (  # table 1 of its paper
    _Row(3, 16, 16, False, False, 1),
    _Row(3, 64, 24, False, False, 2),
    _Row(3, 72, 24, False, False, 1),
    _Row(5, 72, 40, True, False, 2),
    _Row(5, 120, 40, True, False, 1),
    _Row(5, 120, 40, True, False, 1),
    _Row(3, 240, 80, False, True, 2),
    _Row(3, 200, 80, False, True, 1),
    _Row(3, 184, 80, False, True, 1),
    _Row(3, 184, 80, False, True, 1),
    _Row(3, 480, 112, True, True, 1),
    _Row(3, 672, 112, True, True, 1),
    _Row(5, 672, 160, True, True, 2),
    _Row(5, 960, 160, True, True, 1),
    _Row(5, 960, 160, True, True, 1),
)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 expansion (unless by 1), depthwise 3x3, linear 1x1 projection."""

    expansion: int
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `channels` channels."""
        wide = self.expansion * x.shape[-1]
        conv = functools.partial(layers.conv_norm, train=train, activation=nn.relu6)
        y, index = x, 0
        if self.expansion != 1:
            y, index = conv(x, wide, 1, name="conv.0"), 1
        y = conv(y, wide, 3, name=f"conv.{index}", stride=self.stride, groups=wide)
        y = layers.conv_norm(y, self.channels, 1, train, name="conv", index=index + 1)
        return x + y if self.stride == 1 and x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.

    Attributes:
      num_classes: k, the number of logits.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        conv = functools.partial(layers.conv_norm, train=train, activation=nn.relu6)
        x = conv(images, 32, 3, name="features.0", stride=2)
        index = 1
        for expansion, channels, blocks, first_stride in _V2_STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                name = f"features.{index}"
                x = InvertedResidual(expansion, channels, stride, name=name)(x, train)
                index += 1
        x = conv(x, 1280, 1, name=f"features.{index}")
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        x = layers.Dropout(0.2, name="classifier.0")(x, train)
        return _dense(x, self.num_classes, name="classifier.1")


class InvertedResidualV3(nn.Module):
    """MobileNetV3's block: expansion (if any), depthwise, squeeze-and-excitation (if any), 1x1."""

    row: _Row

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `row.channels` channels."""
        row, names = self.row, (f"block.{index}" for index in range(4))
        activation = jax.nn.hard_swish if row.hard_swish else nn.relu
        conv = functools.partial(_conv_norm_v3, train=train, activation=activation)
        y, wide = x, row.expanded
        if wide != x.shape[-1]:
            y = conv(y, wide, 1, name=next(names))
        y = conv(y, wide, row.side, name=next(names), stride=row.stride, groups=wide)
        if row.squeezes:
            y = layers.SqueezeExcitation(
                layers.rounded_channels(wide // 4),
                gate=jax.nn.hard_sigmoid,
                kernel_init=initializers.kaiming_normal_fan_out,
                bias_init=nn.initializers.zeros,
                name=next(names),
            )(y)
        y = _conv_norm_v3(y, row.channels, 1, train, name=next(names))
        return x + y if row.stride == 1 and x.shape == y.shape else y


class MobileNetV3(nn.Module):
    """MobileNetV3-Large of width 1.

    Attributes:
      num_classes: k, the number of logits.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        conv = functools.partial(_conv_norm_v3, train=train, activation=jax.nn.hard_swish)
        x = conv(images, 16, 3, name="features.0", stride=2)
        for index, row in enumerate(_V3_LARGE, start=1):
            x = InvertedResidualV3(row, name=f"features.{index}")(x, train)
        x = conv(x, 960, 1, name=f"features.{len(_V3_LARGE) + 1}")
        x = jnp.mean(x, axis=(1, 2))
        x = jax.nn.hard_swish(_dense(x, 1280, name="classifier.0"))
        sow_penultimate(self, x)
        x = layers.Dropout(0.2, name="classifier.2")(x, train)
        return _dense(x, self.num_classes, name="classifier.3")
