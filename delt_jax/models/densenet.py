"""torchvision's DenseNets (DenseNet-BC).

References:
  Huang et al., arXiv 1608.06993; torchvision/models/densenet.py.
"""

import re
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers, windows
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.sowing import sow_penultimate

GROWTH = 32  # channels that each layer adds


def _conv(x: Array, channels: int, side: int, name: str, stride: int = 1) -> Array:
    init = initializers.kaiming_normal_fan_in
    return layers.conv(x, channels, side, stride=stride, kernel_init=init, name=name)


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and convolution, twice: 1x1 to a bottleneck, 3x3 to the new channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c2"]:
        """Returns the input with `GROWTH` channels appended."""
        y = nn.relu(BatchNorm(name="norm1")(x, train))
        y = _conv(y, 4 * GROWTH, 1, "conv1")
        y = nn.relu(BatchNorm(name="norm2")(y, train))
        return jnp.concatenate([x, _conv(y, GROWTH, 3, "conv2")], axis=-1)


class Transition(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution and average pooling: halves the channels and the side."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns half the channels; a last odd row or column is dropped."""
        x = nn.relu(BatchNorm(name="norm")(x, train))
        x = _conv(x, x.shape[-1] // 2, 1, "conv")
        return nn.avg_pool(x, (2, 2), strides=(2, 2))


class DenseNet(nn.Module):
    """Four blocks of densely connected layers.

    Attributes:
      blocks: layers in each block.
      num_classes: k, the number of logits.
    """

    blocks: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of at least 29 pixels a side."""
        x = _conv(images, 64, 7, "features.conv0", stride=2)
        x = nn.relu(BatchNorm(name="features.norm0")(x, train))
        x = windows.max_pool(x, 3, 2, 1)
        for block, depth in enumerate(self.blocks, start=1):
            if block > 1:
                x = Transition(name=f"features.transition{block - 1}")(x, train)
            for layer in range(1, depth + 1):
                x = DenseLayer(name=f"features.denseblock{block}.denselayer{layer}")(x, train)
        x = nn.relu(BatchNorm(name="features.norm5")(x, train))
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, bias_init=nn.initializers.zeros, name="classifier")

    @staticmethod
    def current_key(key: str) -> str:
        """The key of today's torchvision for one of its files: denselayer1.norm.1 is now norm1."""
        return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
