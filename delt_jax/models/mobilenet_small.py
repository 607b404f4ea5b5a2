"""The field's MobileNetV2 for small images: 1x1 stem, the side halved three times, not five.

References:
  Sandler et al., arXiv 1801.04381; mdistiller/models/cifar/mv2_tinyimagenet.py of
  megvii-research/mdistiller (a08d46f), which is also the network `mobilenet_v2_modified` of
  evaluation/model_utils/models.py of VILA-Lab/DELT (f2f81ca).
"""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.sowing import sow_penultimate

# Its authors leave every layer as torch makes it: biases before BatchNorms, default initialisers.
_conv_norm = functools.partial(
    layers.conv_norm, bias=True, kernel_init=initializers.torch_default_kernel
)


class LinearBottleneck(nn.Module):
    """1x1 expansion (also by 1), depthwise 3x3 and linear 1x1 projection, torch keys residual.i."""

    expansion: int
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `channels` channels."""
        wide = self.expansion * x.shape[-1]
        conv = functools.partial(_conv_norm, train=train, name="residual")
        y = conv(x, wide, 1, index=0, activation=nn.relu6)
        y = conv(y, wide, 3, index=3, stride=self.stride, groups=wide, activation=nn.relu6)
        y = conv(y, self.channels, 1, index=6)
        return x + y if self.stride == 1 and x.shape == y.shape else y


class MobileNetV2Small(nn.Module):
    """MobileNetV2 for images of about 32 pixels.

    Attributes:
      num_classes: k, the number of logits.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        conv = functools.partial(_conv_norm, train=train, activation=nn.relu6)
        # NOTE(parity): the stem pads although its kernel has one pixel, so that the feature map is
        # two pixels larger than the image.
        x = conv(images, 32, 1, name="pre", padding=1)
        x = LinearBottleneck(1, 16, 1, name="stage1")(x, train)
        stages = ((2, 24, 2), (3, 32, 2), (4, 64, 2), (3, 96, 1), (3, 160, 1))
        for stage, (blocks, channels, first_stride) in enumerate(stages, start=2):
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                x = LinearBottleneck(6, channels, stride, name=f"stage{stage}.{block}")(x, train)
        x = LinearBottleneck(6, 320, 1, name="stage7")(x, train)
        x = conv(x, 1280, 1, name="conv1")
        x = jnp.mean(x, axis=(1, 2), keepdims=True)
        sow_penultimate(self, jnp.squeeze(x, (1, 2)))
        x = layers.conv(x, self.num_classes, 1, bias=True, name="conv2")  # the classifier
        return jnp.squeeze(x, (1, 2))
