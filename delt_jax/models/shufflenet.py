"""torchvision's ShuffleNetV2.

References:
  Ma et al., arXiv 1807.11164; torchvision/models/shufflenetv2.py.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers, windows
from delt_jax.models.sowing import sow_penultimate

_conv_norm = functools.partial(layers.conv_norm, kernel_init=initializers.torch_default_kernel)


class InvertedResidual(nn.Module):
    """Two branches of half the channels each, shuffled.

    At stride 1 one branch is half of the input as it is; at stride 2 both take all of it.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `channels` channels."""
        width, half = x.shape[-1], self.channels // 2
        conv = functools.partial(_conv_norm, train=train)
        if self.stride == 1:
            left, right = jnp.split(x, 2, axis=-1)
        else:
            left = conv(x, width, 3, name="branch1", index=0, stride=self.stride, groups=width)
            left = conv(left, half, 1, name="branch1", index=2, activation=nn.relu)
            right = x
        right = conv(right, half, 1, name="branch2", index=0, activation=nn.relu)
        right = conv(right, half, 3, name="branch2", index=3, stride=self.stride, groups=half)
        right = conv(right, half, 1, name="branch2", index=5, activation=nn.relu)
        # torch's channel_shuffle of the two, concatenated: their channels take turns.
        return jnp.stack((left, right), axis=-1).reshape(*left.shape[:-1], self.channels)


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2.

    Attributes:
      channels: of the stem, the three stages and the last convolution.
      num_classes: k, the number of logits.
    """

    channels: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        stem, *stages, last = self.channels
        conv = functools.partial(_conv_norm, train=train, activation=nn.relu)
        x = conv(images, stem, 3, name="conv1", stride=2)
        x = windows.max_pool(x, 3, 2, 1)
        for stage, (channels, blocks) in enumerate(zip(stages, (4, 8, 4), strict=True), start=2):
            for block in range(blocks):
                stride = 2 if block == 0 else 1
                x = InvertedResidual(channels, stride, name=f"stage{stage}.{block}")(x, train)
        x = conv(x, last, 1, name="conv5")
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="fc")
